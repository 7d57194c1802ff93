// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
)

// outputFlag is the -o of commands that tell what they found as text or as JSON.
type outputFlag string

func (f *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(f), "output", "o", "text", "`format`: text, json")
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
