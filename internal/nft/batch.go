// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	vishvananda "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// attr is an attribute of a message, with its value or with those within it.
type attr struct {
	kind  uint16
	value []byte
	list  []attr
}

func str(kind uint16, s string) attr { return attr{kind: kind, value: append([]byte(s), 0)} }
func be32(kind uint16, v uint32) attr {
	return attr{kind: kind, value: binary.BigEndian.AppendUint32(nil, v)}
}
func raw(kind uint16, b []byte) attr        { return attr{kind: kind, value: b} }
func nest(kind uint16, within ...attr) attr { return attr{kind: kind, list: within} }

func encode(list []attr) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	for _, a := range list {
		if a.list == nil {
			e.Bytes(a.kind, a.value)
			continue
		}
		b, err := encode(a.list)
		if err != nil {
			return nil, err
		}
		e.Bytes(a.kind|unix.NLA_F_NESTED, b)
	}
	return e.Encode()
}

// request is one message of a batch.
type request struct {
	kind   uint16
	family byte
	flags  netlink.HeaderFlags
	attrs  []attr
	body   []byte // attributes that are encoded already, after the others
}

func message(kind uint16, family byte, flags netlink.HeaderFlags, attrs ...attr) request {
	return request{kind: kind, family: family, flags: flags, attrs: attrs}
}

// header is struct nfgenmsg: family, version 0, resource id.
func header(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, 0}, resource)
}

// commit does requests as one batch: all of them or none.
func (c *Conn) commit(requests ...request) error { return c.commitIn(0, requests...) }

// commitIn does it in a generation of the tables, and fails with ERESTART in another; 0: in any.
func (c *Conn) commitIn(generation uint32, requests ...request) error {
	control := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: header(unix.NFPROTO_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)}
	}
	batch := []netlink.Message{control(unix.NFNL_MSG_BATCH_BEGIN)}
	if generation != 0 {
		within, err := encode([]attr{be32(batchGeneration, generation)})
		if err != nil {
			return err
		}
		batch[0].Data = append(batch[0].Data, within...)
	}
	for _, r := range requests {
		body, err := encode(r.attrs)
		if err != nil {
			return err
		}
		batch = append(batch, netlink.Message{
			Header: netlink.Header{
				Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | r.kind),
				Flags: netlink.Request | netlink.Acknowledge | r.flags,
			},
			Data: slices.Concat(header(r.family, 0), body, r.body),
		})
	}
	batch = append(batch, control(unix.NFNL_MSG_BATCH_END))
	if err := c.c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.c.SendMessages(batch); err != nil {
		return err
	}
	for answers := 0; answers < len(requests); { // an error answers for all
		got, err := c.c.Receive()
		if err != nil {
			return err
		}
		answers += len(got)
	}
	return nil
}

// Not in golang.org/x/sys/unix: NFNL_BATCH_GENID of include/uapi/linux/netfilter/nfnetlink.h (Linux 4.12).
const batchGeneration = 1

// generation is a number that changes with every commit of anybody's in the namespace.
func (c *Conn) generation() (uint32, error) {
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   header(unix.NFPROTO_UNSPEC, 0),
	}
	if err := c.c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	all, err := c.c.Execute(m)
	if err != nil || len(all) != 1 {
		return 0, fmt.Errorf("nft generation: %d answers: %w", len(all), err)
	}
	_, attrs, err := attributes(all[0])
	if err != nil {
		return 0, err
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_GEN_ID {
			return attrs.Uint32(), nil
		}
	}
	return 0, errors.New("nft generation: none in the answer")
}

// dump reads all of a kind, of all families.
func (c *Conn) dump(kind uint16) ([]netlink.Message, error) {
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | netlink.Dump},
		Data:   header(unix.NFPROTO_UNSPEC, 0),
	}
	return netspace.Whole(func() ([]netlink.Message, error) {
		if err := c.c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return nil, err
		}
		all, err := c.c.Execute(m)
		if errors.Is(err, unix.EINTR) || err == nil && interrupted(all) {
			return nil, vishvananda.ErrDumpInterrupted
		}
		return all, err
	})
}

func interrupted(all []netlink.Message) bool {
	return slices.ContainsFunc(all, func(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 })
}

// Dump reads all messages of a kind (unix.NFT_MSG_GETRULE, say), of all families: struct nfgenmsg, and attributes. A kernel
// without nf_tables has none.
func (c *Conn) Dump(kind uint16) (bodies [][]byte, err error) {
	all, err := c.dump(kind)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	for _, m := range all {
		bodies = append(bodies, m.Data)
	}
	return bodies, err
}
