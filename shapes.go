// SPDX-License-Identifier: Apache-2.0

package econbench

// Shapes of load: which way bulk goes, how many containers it comes from, and what goes on beside it.

// Way says which way the payload of flows goes that have no transactions.
type Way string

// Ways of bulk. The zero value is the usual one.
const (
	WayUp   Way = ""     // from the client to the server
	WayDown Way = "down" // from the server to the client
	WayBoth Way = "both" // each flow one way, half of the flows each
)

// ToServer says whether payload goes from the client to the server.
func (w Way) ToServer() bool { return w != WayDown }

// ToClient says whether payload goes from the server to the client.
func (w Way) ToClient() bool { return w != WayUp }

// CounterBeside stands before the names of counters that are of Flows.Beside.
const CounterBeside = "beside."

// Sets are the flows' kinds of work: the flows themselves, and those beside them. Each is told by the prefix of its counters.
func (f Flows) Sets() map[string]Flows {
	sets := map[string]Flows{"": f}
	if f.Beside != nil {
		sets[CounterBeside] = *f.Beside
	}
	return sets
}

// ParamClients is the parameter by which a Gathered workload says from how many client containers it comes. To others it may mean something
// else: pgbench calls its connections so.
const ParamClients = "clients"

// Gathered is an optional interface of workloads that may come from more than one client container.
type Gathered interface {
	Containers(Params) int
}

// Crowded is an optional interface of testbeds that have more than one client: Client is the first of them. All are on the client's
// host; where containers have no network of their own they share its address.
type Crowded interface {
	Clients() []Endpoint
}

// ClientsOf are a testbed's clients, one at least.
func ClientsOf(tb Testbed) []Endpoint {
	if c, ok := tb.(Crowded); ok {
		return c.Clients()
	}
	return []Endpoint{tb.Client()}
}

// PIDs are the first processes of all containers that the workload's programs run in on this host.
func (s Scope) PIDs() []int { return append([]int{s.PID}, s.Others...) }
