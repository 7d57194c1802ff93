// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/wholefile"
)

// outputUsage tells such a flag from an -o that is a file.
const outputUsage = "`format`: text, json"

// outputFlag is the -o of commands that tell what they found as text or as JSON.
type outputFlag string

func (f *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(f), "output", "o", "text", outputUsage)
}

// check finds a format that is none, before anything is looked at.
func (f outputFlag) check() error {
	if f == "text" || f == "json" {
		return nil
	}
	return names.Unknown("output format", string(f), []string{"text", "json"})
}

// write tells v as JSON, or calls text.
func (f outputFlag) write(w io.Writer, v any, text func(io.Writer) error) error {
	if f == "json" {
		return writeJSON(w, v)
	}
	return text(w)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// renderTo renders to the file that -o names, or to w without one ("-" is none). command is who does it, for errors.
func renderTo(w io.Writer, file, command string, render func(io.Writer) error) error {
	if file == "" || file == "-" {
		return render(w)
	}
	var body bytes.Buffer // a failed rendering must not leave half a file
	if err := render(&body); err != nil {
		return err
	}
	if err := writeWhole(file, body.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// writeWhole writes a file that nobody sees half-written: node_exporter may read the folder at any moment. What is no plain file (/dev/null, a
// pipe, a link) is written to, not replaced.
func writeWhole(path string, b []byte) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, b, 0o644)
	}
	return wholefile.Write(path, b)
}
