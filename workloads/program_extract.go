// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/econbench/econbench"
)

// extract finds a metric in what a client printed, in the metric's base unit. An error says what is not there.
func extract(m econbench.ProgramMetric, out econbench.Output) (float64, error) {
	text, err := find(m, out)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, fmt.Errorf("%s: found %q, want a number", m.How(), shorten(text))
	}
	if value *= m.Scale; math.IsInf(value, 0) {
		return 0, fmt.Errorf("%s: found %q, which is too large", m.How(), shorten(text))
	}
	return value, nil
}

// find returns the number as it was printed.
func find(m econbench.ProgramMetric, out econbench.Output) (string, error) {
	streams := [][]byte{out.Stdout, out.Stderr}
	switch {
	case m.Regexp != "":
		expression, err := metricExpression(m.Regexp)
		if err != nil {
			return "", err
		}
		for _, b := range streams {
			if all := expression.FindAllSubmatch(b, -1); len(all) > 0 {
				return string(all[len(all)-1][1]), nil
			}
		}
	case m.JSON != "":
		for _, b := range streams {
			if b = bytes.TrimSpace(b); len(b) == 0 || !gjson.ValidBytes(b) {
				continue
			}
			if r := gjson.GetBytes(b, m.JSON); r.Type == gjson.Number || r.Type == gjson.String {
				return strings.Clone(r.String()), nil
			} else if r.Exists() {
				return r.Raw, nil
			}
		}
	case m.CSV != nil:
		for _, b := range streams {
			if text, ok := findCell(*m.CSV, b); ok {
				return text, nil
			}
		}
	default:
		return "", fmt.Errorf("neither regexp nor json nor csv")
	}
	return "", fmt.Errorf("%s matches nothing that the client printed", m.How())
}

// metricExpression compiles an expression that has the number in its one group. ^ and $ are those of lines.
func metricExpression(text string) (*regexp.Regexp, error) {
	e, err := expression(text) // by itself: "a)(b" would be sound within brackets
	if err == nil {
		e, err = expression("(?m:" + text + ")")
	}
	if err != nil {
		return nil, err
	}
	if e.NumSubexp() != 1 {
		return nil, fmt.Errorf("%q has %d groups: want one, the number, as in (\\d+); (?:…) is no group", text, e.NumSubexp())
	}
	return e, nil
}

// expression compiles one, or says on one line why not.
func expression(text string) (*regexp.Regexp, error) {
	e, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%s", oneLine(err.Error()))
	}
	return e, nil
}

// findCell finds a cell in lines of comma-separated values, whatever stands before them.
func findCell(at econbench.CSVCell, b []byte) (string, bool) {
	records := csvRecords(b)
	column, numbered := wholeNumber(at.Column)
	start := 0
	if !numbered {
		header := slices.IndexFunc(records, func(r []string) bool { return slices.Contains(r, at.Column) })
		if header < 0 {
			return "", false
		}
		column, start = int64(slices.Index(records[header], at.Column))+1, header+1
	}
	records = slices.DeleteFunc(records[start:], func(r []string) bool { return int64(len(r)) < column })
	row := len(records) - 1
	if n, ok := wholeNumber(at.Row); ok {
		row = int(min(n, math.MaxInt32)) - 1
	} else if at.Row != "" {
		row = slices.IndexFunc(records, func(r []string) bool { return r[0] == at.Row })
	}
	if column < 1 || row < 0 || row >= len(records) {
		return "", false
	}
	return records[row][column-1], true
}

// csvRecords reads each line by itself, so that a quote in a line that is none of the values' swallows no other.
func csvRecords(b []byte) (records [][]string) {
	for line := range bytes.Lines(b) {
		r := csv.NewReader(bytes.NewReader(line))
		r.FieldsPerRecord, r.LazyQuotes, r.TrimLeadingSpace = -1, true, true
		record, err := r.Read()
		if err == io.EOF || err != nil || len(record) == 0 {
			continue
		}
		for i := range record {
			record[i] = strings.TrimSpace(record[i])
		}
		records = append(records, record)
	}
	return records
}
