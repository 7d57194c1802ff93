// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench/internal/names"
)

// Command is the name of econbench's command that runs Main.
const Command = "load"

// Protocols that the generator speaks.
const (
	Memcached = "memcached"
	HTTP      = "http"
)

// Options are all that a run of the generator depends on. The zero value of what is not commented otherwise is refused by Check.
type Options struct {
	Protocol    string         // Memcached or HTTP
	Server      netip.AddrPort // data connections go there, and no other
	Control     netip.AddrPort // loading and statistics go there; not valid: nothing is held against the server's statistics
	Connections int
	Threads     int           // each has its share of the connections and a system thread of its own
	Pipeline    int           // requests that may be under way on one connection
	Rate        float64       // 1/s over all connections, an open loop; 0: a closed one
	Duration    time.Duration // from the first request on
	Seed        uint64        // of the schedule and of what is asked; 0 is a seed like others

	// Of Memcached.
	Keys     int
	GetShare float64 // of the requests, 0 to 1
	KeySize  Sizes   // B
	Value    Sizes   // B
	Zipf     float64 // exponent of the keys' popularity, below 1; 0: uniform

	// Of HTTP.
	Paths    []string
	Body     int  // B that each answer must have
	PerReq   bool // a connection for each request
	LowPort  int  // of the client's own ports, with PerReq: they are taken one after the other
	HighPort int  // the last one; 0: the kernel chooses
}

// Limits of options.
const (
	MostConnections = 1024
	MostPipeline    = 64
	MostKeys        = 1 << 20
	MostKeySize     = 250     // B: memcached's
	MostValue       = 1000000 // B: below memcached's item size of 1 MiB, with its header and key
)

// Args is the command line that Parse reads back.
func (o Options) Args() []string {
	args := []string{o.Protocol, "--server", o.Server.String(), "--connections", strconv.Itoa(o.Connections), "--threads", strconv.Itoa(o.Threads),
		"--pipeline", strconv.Itoa(o.Pipeline), "--rate", text(o.Rate), "--duration", o.Duration.String(), "--seed", strconv.FormatUint(o.Seed, 10)}
	if o.Control.IsValid() {
		args = append(args, "--control", o.Control.String())
	}
	if o.Protocol == Memcached {
		return append(args, "--keys", strconv.Itoa(o.Keys), "--gets", text(o.GetShare), "--key-size", o.KeySize.String(),
			"--value-size", o.Value.String(), "--zipf", text(o.Zipf))
	}
	args = append(args, "--paths", strings.Join(o.Paths, ","), "--body", strconv.Itoa(o.Body))
	if o.PerReq {
		args = append(args, "--connect", "--ports", fmt.Sprintf("%d-%d", o.LowPort, o.HighPort))
	}
	return args
}

func text(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// Parse reads a command line: a protocol and flags.
func Parse(args []string) (o Options, err error) {
	if len(args) == 0 {
		return o, fmt.Errorf("load: no protocol, want %s or %s", Memcached, HTTP)
	}
	o.Protocol = args[0]
	if o.Protocol != Memcached && o.Protocol != HTTP {
		return o, names.Unknown("protocol", o.Protocol, []string{Memcached, HTTP})
	}
	flags := flag.NewFlagSet("load "+o.Protocol, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	o.common(flags)
	if o.Protocol == Memcached {
		o.memcached(flags)
	} else {
		o.http(flags)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return o, fmt.Errorf("load %s: %w", o.Protocol, err)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("load %s: takes no arguments, got %q", o.Protocol, flags.Arg(0))
	}
	return o, o.Check()
}

func (o *Options) common(flags *flag.FlagSet) {
	flags.TextVar(&o.Server, "server", netip.AddrPort{}, "address:port of the server")
	flags.TextVar(&o.Control, "control", netip.AddrPort{}, "address:port for loading and statistics")
	flags.IntVar(&o.Connections, "connections", 1, "connections")
	flags.IntVar(&o.Threads, "threads", 1, "system threads")
	flags.IntVar(&o.Pipeline, "pipeline", 1, "requests under way on a connection")
	flags.Float64Var(&o.Rate, "rate", 0, "requests per second in an open loop; 0: closed loop")
	flags.DurationVar(&o.Duration, "duration", 10*time.Second, "how long")
	flags.Uint64Var(&o.Seed, "seed", 1, "of schedule and requests")
}

func (o *Options) memcached(flags *flag.FlagSet) {
	flags.IntVar(&o.Keys, "keys", 10000, "number of keys")
	flags.Float64Var(&o.GetShare, "gets", 1, "share of gets among the requests")
	flags.TextVar(&o.KeySize, "key-size", Fixed(30), "bytes: 30, 20-40 or etc")
	flags.TextVar(&o.Value, "value-size", Fixed(200), "bytes: 200, 100-300 or etc")
	flags.Float64Var(&o.Zipf, "zipf", 0, "exponent of the keys' popularity; 0: uniform")
}

func (o *Options) http(flags *flag.FlagSet) {
	flags.Func("paths", "paths, with commas", func(s string) error { o.Paths = strings.Split(s, ","); return nil })
	flags.IntVar(&o.Body, "body", 0, "bytes of each answer's body")
	flags.BoolVar(&o.PerReq, "connect", false, "a connection for each request")
	flags.Func("ports", "of the client, LOW-HIGH", func(s string) error {
		low, high, ok := strings.Cut(s, "-")
		var errs [2]error
		o.LowPort, errs[0] = strconv.Atoi(low)
		o.HighPort, errs[1] = strconv.Atoi(high)
		if !ok || errors.Join(errs[:]...) != nil {
			return fmt.Errorf("%q: want LOW-HIGH, as in 10000-20000", s)
		}
		return nil
	})
}

// Check names the first option that can't be.
func (o Options) Check() error {
	whole := func(name string, got, least, most int) error {
		if got < least || got > most {
			return fmt.Errorf("load: %s %d: want %d to %d", name, got, least, most)
		}
		return nil
	}
	if !o.Server.IsValid() || !o.Server.Addr().Is4() || o.Server.Port() == 0 {
		return fmt.Errorf("load: server %q: want IPv4:PORT", o.Server)
	}
	if !(o.Rate >= 0 && o.Rate <= 1e7) {
		return fmt.Errorf("load: rate %g: want 0 to 1e7 requests per second", o.Rate)
	}
	if o.Duration <= 0 || o.Duration > time.Hour {
		return fmt.Errorf("load: duration %v: want more than 0 and up to 1h", o.Duration)
	}
	errs := []error{whole("connections", o.Connections, 1, MostConnections), whole("threads", o.Threads, 1, o.Connections),
		whole("pipeline", o.Pipeline, 1, MostPipeline)}
	if o.Protocol == Memcached {
		errs = append(errs, whole("keys", o.Keys, 1, MostKeys), o.KeySize.check("key-size", MostKeySize), o.Value.check("value-size", MostValue),
			share("gets", o.GetShare, 1), share("zipf", o.Zipf, 0.999))
	} else {
		errs = append(errs, whole("body", o.Body, 0, 1<<30))
		for _, p := range o.Paths {
			if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, " \r\n") {
				errs = append(errs, fmt.Errorf("load: path %q: want /PATH without spaces", p))
			}
		}
		if len(o.Paths) == 0 {
			errs = append(errs, errors.New("load: no paths"))
		}
		if o.PerReq && o.Pipeline > 1 {
			errs = append(errs, fmt.Errorf("load: pipeline %d: want 1 with a connection for each request", o.Pipeline))
		}
		if o.PerReq && o.HighPort != 0 {
			errs = append(errs, whole("lowest port", o.LowPort, 1024, o.HighPort), whole("ports", o.HighPort-o.LowPort+1, o.Connections, 1<<16))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func share(name string, got, most float64) error {
	if !(got >= 0 && got <= most) {
		return fmt.Errorf("load: %s %g: want 0 to %g", name, got, most)
	}
	return nil
}
