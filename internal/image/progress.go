// SPDX-License-Identifier: Apache-2.0

package image

import "sync"

// Stages of a build, in their order. StagePackages downloads, unpacks and writes
// at the same time.
const (
	StageRelease  = "release"  // the signed list of the archive's files
	StageIndex    = "index"    // the lists of packages
	StagePackages = "packages" // the packages themselves
)

// Progress is a step of a build.
type Progress struct {
	Stage string
	Done  int64 // bytes available here so far, from the cache or the mirror
	Total int64 // bytes of the stage, 0 while it is not known
}

// progress calls back one at a time. A nil callback is none.
type progress struct {
	mu  sync.Mutex
	to  func(Progress)
	now Progress
}

// start opens a stage.
func (p *progress) start(stage string, total int64) {
	p.update(func() { p.now = Progress{Stage: stage, Total: total} })
}

// moved adds to the stage's bytes.
func (p *progress) moved(n int) {
	p.update(func() { p.now.Done += int64(n) })
}

func (p *progress) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.to != nil {
		p.to(p.now)
	}
}
