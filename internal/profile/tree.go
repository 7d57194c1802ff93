// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"
	"strings"
)

// node is a frame under a frame. Each figure is there twice: of the baseline and of the arm; where there is one profile alone it is
// the second.
type node struct {
	name        string
	self, total [2]float64
	children    []*node // by name
}

// Sides of figures that are there twice.
const (
	ofBase = 0
	ofArm  = 1
)

// add puts stacks into the tree, each sample of them worth so much. What is told apart is left out.
func (n *node) add(list []Stack, side int, worth float64) {
	for _, s := range list {
		if s.apart() {
			continue
		}
		cost := float64(s.Count) * worth
		at := n
		at.total[side] += cost
		for _, f := range s.Frames {
			at = at.child(f)
			at.total[side] += cost
		}
		at.self[side] += cost
	}
}

func (n *node) child(name string) *node {
	i, found := slices.BinarySearchFunc(n.children, name, func(c *node, name string) int { return strings.Compare(c.name, name) })
	if !found {
		n.children = slices.Insert(n.children, i, &node{name: name})
	}
	return n.children[i]
}

// width is how much room a node takes: where there are two profiles, as much as the larger of its own costs and as all that is under
// it, so that what is gone in the arm is seen as well as what is new.
func (n *node) width() float64 {
	width := max(n.self[ofBase], n.self[ofArm])
	for _, c := range n.children {
		width += c.width()
	}
	return width
}

// box is a node's place in a picture, in shares of its width and in rows.
type box struct {
	*node
	x, width float64
	row      int
}

// lay gives each node that is at least so wide its place, the root's children in row 0. hidden is the width of what is left out.
func lay(root *node, least float64) (boxes []box, rows int, hidden float64) {
	whole := root.width()
	if whole <= 0 {
		return nil, 0, 0
	}
	var place func(n *node, x float64, row int)
	place = func(n *node, x float64, row int) {
		for _, c := range n.children {
			width := c.width() / whole
			if width < least {
				hidden += width
				x += width
				continue
			}
			boxes = append(boxes, box{c, x, width, row})
			rows = max(rows, row+1)
			place(c, x, row+1)
			x += width
		}
	}
	place(root, 0, 0)
	return boxes, rows, hidden
}
