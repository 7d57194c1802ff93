// SPDX-License-Identifier: Apache-2.0

// Probe is what the tests run in containers: a static program that is all of an image.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "answer": // ADDRESS: "pong" to whoever connects
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			_, _ = io.WriteString(c, "pong")
			c.Close()
		}
	case "ask": // ADDRESS: prints the answer
		c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		fmt.Println(string(b))
		return err
	case "ls": // DIRECTORY…
		for _, d := range args {
			entries, err := os.ReadDir(d)
			if err != nil {
				return err
			}
			for _, e := range entries {
				fmt.Println(d + "/" + e.Name())
			}
		}
	case "cat": // FILE…
		for _, f := range args {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			fmt.Print(string(b))
		}
	}
	return nil
}
