// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write manual pages, one a command",
		Long: `man writes a manual page for each command into a folder, which is made if need be: econbench.1, econbench-run.1 and so on.
Their date is that of $SOURCE_DATE_EPOCH (seconds since 1970); without it they have none, so that one version's pages are always the
same.`,
		Example: `  econbench man /usr/local/share/man/man1
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) econbench man man1; man -l man1/econbench-run.1`,
		Args: oneArg("folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages, err := manPages(cmd.Root(), os.Getenv("SOURCE_DATE_EPOCH"))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			for _, p := range pages {
				if err := os.WriteFile(filepath.Join(args[0], p.name), p.body, 0o644); err != nil {
					return fmt.Errorf("man: %w", err)
				}
			}
			return nil
		},
	}
}

// manPage is a file of a manual.
type manPage struct {
	name string
	body []byte
}

// undated is how cobra writes the date that stands for none: it would put today's in the place of a missing one.
const undated = `"Jan 0001"`

// manPages are those of a command and all below it that users are to see.
func manPages(cmd *cobra.Command, epoch string) (pages []manPage, err error) {
	var date time.Time
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH %q: want whole seconds since 1970", epoch)
		}
		date = time.Unix(seconds, 0).UTC()
	}
	if !cmd.HasParent() {
		cmd.InitDefaultCompletionCmd()
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		below, err := manPages(c, epoch)
		if err != nil {
			return nil, err
		}
		pages = append(pages, below...)
	}
	cmd.DisableAutoGenTag = true
	var b bytes.Buffer
	header := &doc.GenManHeader{Section: "1", Date: &date, Source: "econbench " + versionString(), Manual: "econbench manual"}
	if err := doc.GenMan(cmd, header, &b); err != nil {
		return nil, fmt.Errorf("man page of %s: %w", cmd.CommandPath(), err)
	}
	body := bytes.Replace(b.Bytes(), []byte(undated), []byte(`""`), 1)
	return append(pages, manPage{strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1", body}), nil
}
