// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/calibrations"
	"github.com/econbench/econbench/reports"
)

// storeCalibration keeps a calibration for runs and reports to quote, and says where.
func storeCalibration(c *reports.Calibration) (path string, err error) {
	store, err := calibrations.Default()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := c.RenderJSON(&b); err != nil {
		return "", err
	}
	return store.Put(c.Machine, c.Run, b.Bytes())
}

// addRulers gives the run what this machine's store knows of each workload that it has no ruler of. What can't be read is
// warned of and left out: a run doesn't fail for want of a quote.
func addRulers(run *econbench.Run, warn func(string)) {
	machine := run.MachineKey()
	if machine == "" {
		return
	}
	store, err := calibrations.Default()
	if err != nil {
		warn(err.Error())
		return
	}
	var known []*reports.Calibration
	leftOut := store.Each(machine, func(content []byte) error {
		c, err := reports.ReadCalibration(content)
		if err == nil && c.Machine != machine {
			err = fmt.Errorf("it is of machine %q, want %q", c.Machine, machine)
		}
		if err == nil {
			known = append(known, c)
		}
		return err
	})
	for _, line := range leftOut {
		warn(line)
	}
	run.Rulers = slices.Concat(run.Rulers, reports.Rulers(run, known))
}
