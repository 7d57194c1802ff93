// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
)

// followApart joins what two hosts saw by two clocks. Each side's times are its own. What lies between them, once there and once
// back, nobody saw: it is half of the time in which the client's host waited and the server's did not hold the transaction.
func followApart(client, server Record) (Path, error) {
	c, err := follow(waits, client)
	s, failed := follow(serves, server)
	if err := errors.Join(err, failed); err != nil {
		return Path{}, err
	}
	turn := firstResponse(c.Stages)
	if turn <= 0 || len(s.Stages) == 0 {
		return Path{}, notSeen([]Record{client, server})
	}
	waiting := c.Stages[turn].Since
	holding := s.Stages[len(s.Stages)-1].At
	wire := max((waiting-holding)/2, 0)
	arrived := c.Stages[turn-1].At + wire

	p := c
	p.Transactions, p.Followed = min(c.Transactions, s.Transactions), min(c.Followed, s.Followed)
	p.Stages = append([]Stage(nil), c.Stages[:turn]...)
	rounds := lastRound(p.Stages)
	for i, st := range s.Stages {
		st.At += arrived
		if i == 0 {
			st.Since, st.Reckoned = wire, true
		}
		if st.Round > 0 {
			st.Round += rounds
		}
		p.Stages = append(p.Stages, st)
	}
	served := lastRound(s.Stages)
	for i, st := range c.Stages[turn:] {
		if i == 0 {
			st.Since, st.Reckoned = wire, true
		}
		if st.Round > rounds {
			st.Round += served
		}
		p.Stages = append(p.Stages, st)
	}
	return p, nil
}

// firstResponse is where a response comes back; -1: nowhere.
func firstResponse(stages []Stage) int {
	for i, s := range stages {
		if s.Direction == Response && s.Hook != hookRuns {
			return i
		}
	}
	return -1
}

func lastRound(stages []Stage) (last int) {
	for _, s := range stages {
		last = max(last, s.Round)
	}
	return last
}
