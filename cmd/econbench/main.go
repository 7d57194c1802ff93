// SPDX-License-Identifier: Apache-2.0

// Command econbench compares container network paths: the host's own, a real Docker overlay, and that overlay with a fast
// path attached.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() { os.Exit(Main()) }

// Main runs the program on this process's arguments and streams and returns its exit code: 0 good, 1 could not measure
// (usage errors too), 2 a regression or a failed gate, 3 a run that --resume can't go on with for good.
func Main() int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// errInterrupted is why a context ends when the user wants the program to stop.
var errInterrupted = fmt.Errorf("interrupted")

// interruptible ends the context at the first SIGINT, SIGTERM or SIGHUP, but for those that were ignored at the start (as
// nohup does). The second ends the program at once.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		<-signals
		fmt.Fprintln(os.Stderr, "econbench: stopping: what was measured is kept, what was started is taken down; again to stop at once")
		cancel(errInterrupted)
		<-signals
		fmt.Fprintln(os.Stderr, "econbench: stopped at once: `econbench clean` removes what is left")
		os.Exit(1)
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// version is set by the Makefile.
var version = ""

// versionString is the program's version: the build's, else the module's.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
