// SPDX-License-Identifier: Apache-2.0

// Command readmetrics reads metrics from standard input with Prometheus' own parsers and writes what it understood as JSON, so that
// a test of the report format openmetrics does not have to believe its own idea of it. -as openmetrics is Prometheus' scraper, -as text
// the parser of node_exporter's textfile collector.
//
// It is in the module of tools since what it imports has a hundred modules in its go.sum that nobody needs who builds econbench.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// Family is what was read of a metric family.
type Family struct {
	Type    string
	Unit    string // "" in the text format, which has none
	Help    string
	Samples []Sample
}

// Sample is one number.
type Sample struct {
	Labels map[string]string
	Value  float64
}

func main() {
	as := flag.String("as", "openmetrics", "format: openmetrics, text")
	flag.Parse()
	if err := run(*as, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "readmetrics:", err)
		os.Exit(1)
	}
}

func run(as string, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	read := map[string]func([]byte) (map[string]*Family, error){"openmetrics": openMetrics, "text": text}[as]
	if read == nil {
		return fmt.Errorf("unknown format %q: allowed: openmetrics, text", as)
	}
	families, err := read(b)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(families)
}

// openMetrics reads with the scraper's parser, which is lenient about order; what the standard also forbids is looked for here: families in
// pieces, the same labels twice, timestamps.
func openMetrics(b []byte) (map[string]*Family, error) {
	p := textparse.NewOpenMetricsParser(b, labels.NewSymbolTable())
	families := make(map[string]*Family)
	seen := make(map[string]bool)
	var name string
	begin := func(n []byte) error {
		if string(n) == name {
			return nil
		}
		if name = string(n); families[name] != nil {
			return fmt.Errorf("family %s is in two pieces", name)
		}
		families[name] = new(Family)
		return nil
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return nil, err
		}
		switch entry {
		case textparse.EntryType:
			n, typ := p.Type()
			if err := begin(n); err != nil {
				return nil, err
			}
			families[name].Type = string(typ)
		case textparse.EntryUnit:
			n, unit := p.Unit()
			if err := begin(n); err != nil {
				return nil, err
			}
			families[name].Unit = string(unit)
		case textparse.EntryHelp:
			n, help := p.Help()
			if err := begin(n); err != nil {
				return nil, err
			}
			families[name].Help = string(help)
		case textparse.EntrySeries:
			series, at, value := p.Series()
			var l labels.Labels
			p.Labels(&l)
			switch {
			case at != nil:
				return nil, fmt.Errorf("%s has a timestamp, which the textfile collector refuses", series)
			case l.Get(model.MetricNameLabel) != name:
				return nil, fmt.Errorf("%s stands in family %s", series, name)
			case seen[l.String()]:
				return nil, fmt.Errorf("%s is there twice", series)
			}
			seen[l.String()] = true
			all := l.Map()
			delete(all, model.MetricNameLabel)
			families[name].Samples = append(families[name].Samples, Sample{all, value})
		default:
			return nil, fmt.Errorf("an entry of kind %d in family %s", entry, name)
		}
	}
}

// text reads as node_exporter's textfile collector does, with the names that it allows.
func text(b []byte) (map[string]*Family, error) {
	p := expfmt.NewTextParser(model.LegacyValidation)
	read, err := p.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	families := make(map[string]*Family)
	for name, f := range read {
		one := &Family{Type: "gauge", Help: f.GetHelp()}
		for _, m := range f.GetMetric() {
			if m.GetGauge() == nil || m.TimestampMs != nil {
				return nil, fmt.Errorf("%s is a %s, or has a timestamp", name, f.GetType())
			}
			s := Sample{make(map[string]string), m.GetGauge().GetValue()}
			for _, l := range m.GetLabel() {
				s.Labels[l.GetName()] = l.GetValue()
			}
			one.Samples = append(one.Samples, s)
		}
		families[name] = one
	}
	return families, nil
}
