// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Sizes is a distribution of whole bytes: fixed, uniform between two sizes, or that of Facebook's pool ETC. The zero value is
// always 0.
type Sizes struct {
	Low, High int
	ETC       bool // keys' or values', as they are asked for
}

// Fixed is always the same size.
func Fixed(n int) Sizes { return Sizes{Low: n, High: n} }

// String writes sizes as UnmarshalText reads them: "30", "20-40" or "etc".
func (s Sizes) String() string {
	switch {
	case s.ETC:
		return "etc"
	case s.Low == s.High:
		return strconv.Itoa(s.Low)
	}
	return fmt.Sprintf("%d-%d", s.Low, s.High)
}

// MarshalText is String.
func (s Sizes) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what String writes.
func (s *Sizes) UnmarshalText(b []byte) error {
	if string(b) == "etc" {
		*s = Sizes{ETC: true}
		return nil
	}
	low, high, two := strings.Cut(string(b), "-")
	if !two {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, also := strconv.Atoi(high)
	if err != nil || also != nil || from < 0 || from > to {
		return fmt.Errorf("sizes %q: want bytes as in 30, a range as in 20-40, or etc", b)
	}
	*s = Sizes{Low: from, High: to}
	return nil
}

func (s Sizes) check(name string, most int) error {
	if s.ETC {
		return nil
	}
	if s.Low < 1 || s.High > most || s.Low > s.High {
		return fmt.Errorf("load: %s %s: want 1 to %d bytes", name, s, most)
	}
	return nil
}

// The pool ETC of Atikoglu et al., "Workload Analysis of a Large-Scale Key-Value Store", SIGMETRICS 2012, section 5: key sizes
// are generalised extreme value; values are as counted up to 14 B, and from 15 B on generalised Pareto.
const (
	gevLocation, gevScale, gevShape = 30.7984, 8.20449, 0.078688
	gpdLocation, gpdScale, gpdShape = 15, 214.476, 0.348238
	// ETCGetShare is 30 gets to a set.
	ETCGetShare = 30.0 / 31
)

// etcHead is the share of values of 0, 1, 2 … 14 B, together 0.44155 of all.
var etcHead = [...]float64{0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837, 0.00837, 0.08989, 0.00092, 0.00326, 0.01980}

// keySize draws the size of a key, 1 B to MostKeySize.
func (s Sizes) keySize(r *rand.Rand) int {
	if !s.ETC {
		return s.plain(r)
	}
	// Inverse of the distribution function; 1-Float64 is never 0.
	x := gevLocation + gevScale/gevShape*(math.Pow(-math.Log(1-r.Float64()), -gevShape)-1)
	return min(max(int(math.Round(x)), 1), MostKeySize)
}

// valueSize draws the size of a value, 0 B to MostValue.
func (s Sizes) valueSize(r *rand.Rand) int {
	if !s.ETC {
		return s.plain(r)
	}
	u := r.Float64()
	for size, share := range etcHead {
		if u < share {
			return size
		}
		u -= share
	}
	x := gpdLocation + gpdScale/gpdShape*(math.Pow(1-r.Float64(), -gpdShape)-1)
	return min(max(int(math.Round(x)), len(etcHead)), MostValue)
}

func (s Sizes) plain(r *rand.Rand) int { return s.Low + r.IntN(s.High-s.Low+1) }

// zipf draws numbers below n, the lower the likelier: the k-th in proportion to 1/k^theta. It is the method of Gray et al.,
// "Quickly generating billion-record synthetic databases", SIGMOD 1994, which YCSB uses too; theta is below 1.
type zipf struct {
	n                       float64
	theta, alpha, zeta, eta float64
}

func newZipf(n int, theta float64) *zipf {
	z := &zipf{n: float64(n), theta: theta, alpha: 1 / (1 - theta)}
	for k := 1; k <= n; k++ {
		z.zeta += math.Pow(float64(k), -theta)
	}
	two := 1 + math.Pow(0.5, theta)
	if n > 2 {
		z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - two/z.zeta)
	}
	return z
}

func (z *zipf) draw(r *rand.Rand) int {
	u := r.Float64()
	switch uz := u * z.zeta; {
	case uz < 1 || z.n < 2:
		return 0
	case uz < 1+math.Pow(0.5, z.theta) || z.n < 3:
		return 1
	}
	return min(int(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)), int(z.n)-1)
}
