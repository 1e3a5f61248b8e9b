package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkService has a pod ask a pod on another node's bridge, straight and through a service, in turns: small answers one
// after the other on connections that are kept, and long ones. What is compared is the way of the packets: client and
// server do nothing besides. The ratios are the medians of those of each turn, for a machine has faster and slower moments.
func BenchmarkService(b *testing.B) {
	h := newHost(b)
	client, server := h.pod("10.244.1.2", "10.244.1.1"), h.pod("10.244.2.2", "10.244.2.1")
	services, ends := many(500) // it is not alone
	services, ends = append(services, service("web", "10.96.0.10")), append(ends, slice("web", 8080, "10.244.2.2"))
	if err := h.apply(b.Context(), testConfig.update(nil, rulesOf(services, ends))); err != nil {
		b.Fatal(err)
	}
	server.serveBytes("10.244.2.2:8080")

	ways := []string{"10.244.2.2:8080", "10.96.0.10:80"}
	var requests, megabytes, late [2][]float64
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			way := (i + round) % 2 // each is first every other time
			count, p99 := client.ask(ways[way], 8, 128)
			requests[way], late[way] = append(requests[way], count), append(late[way], p99)
			count, _ = client.ask(ways[way], 2, 1e6)
			megabytes[way] = append(megabytes[way], count)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range []struct {
		name   string
		values [2][]float64
	}{{"requests/s", requests}, {"MB/s", megabytes}, {"p99-µs", late}} {
		var ratios []float64
		for turn, pod := range m.values[0] {
			ratios = append(ratios, m.values[1][turn]/pod)
		}
		b.ReportMetric(median(m.values[0]), "pod-"+m.name)
		b.ReportMetric(median(m.values[1]), "service-"+m.name)
		b.ReportMetric(median(ratios), m.name+"-ratio")
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// pod returns a pod of the host: a namespace with a cable to a bridge of its node, at the gateway's address.
func (h *host) pod(address, gateway string) *host {
	h.t.Helper()
	p := &host{h.t, h.name + "-" + address}
	bridge := "b" + gateway
	run(h.t, "ip", "netns", "add", p.name)
	h.t.Cleanup(func() { run(h.t, "ip", "netns", "delete", p.name) })
	run(h.t, "ip", "-n", h.name, "link", "add", bridge, "type", "bridge")
	run(h.t, "ip", "-n", h.name, "address", "add", gateway+"/24", "dev", bridge)
	run(h.t, "ip", "-n", h.name, "link", "add", "v"+address, "master", bridge, "type", "veth", "peer", "name", "eth0", "netns", p.name)
	run(h.t, "ip", "-n", h.name, "link", "set", bridge, "up")
	run(h.t, "ip", "-n", h.name, "link", "set", "v"+address, "up")
	run(h.t, "ip", "-n", p.name, "address", "add", address+"/24", "dev", "eth0")
	run(h.t, "ip", "-n", p.name, "link", "set", "eth0", "up")
	run(h.t, "ip", "-n", p.name, "route", "add", "default", "via", gateway)
	run(h.t, "ip", "netns", "exec", h.name, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	return p
}

// serveBytes answers each number with so many bytes.
func (h *host) serveBytes(address string) {
	h.t.Helper()
	var port net.Listener
	h.inside(func() {
		var err error
		if port, err = net.Listen("tcp4", address); err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(func() { port.Close() })
	zeros := make([]byte, 1e6)
	go func() {
		for c, err := port.Accept(); err == nil; c, err = port.Accept() {
			go func() {
				defer c.Close()
				var size [4]byte
				for {
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					c.Write(zeros[:binary.BigEndian.Uint32(size[:])])
				}
			}()
		}
	}()
}

// ask asks for so many bytes over and over, on each of the connections, for a while. It returns how many answers came in a
// second, and how long one in a hundred takes at least, in microseconds.
func (h *host) ask(address string, connections int, size uint32) (perSecond, p99 float64) {
	h.t.Helper()
	const length = 200 * time.Millisecond
	kept := make([]net.Conn, connections)
	h.inside(func() {
		for i := range kept {
			var err error
			if kept[i], err = net.DialTimeout("tcp4", address, 5*time.Second); err != nil {
				h.t.Error(err)
				return
			}
		}
	})
	if h.t.Failed() {
		h.t.FailNow()
	}
	took := make([][]time.Duration, connections)
	var asking sync.WaitGroup
	start := time.Now()
	for i, c := range kept {
		asking.Go(func() {
			defer c.Close()
			c.SetDeadline(start.Add(10 * time.Second))
			question, answer := binary.BigEndian.AppendUint32(nil, size), make([]byte, size)
			for time.Since(start) < length {
				before := time.Now()
				_, err1 := c.Write(question)
				_, err2 := io.ReadFull(c, answer)
				if err := errors.Join(err1, err2); err != nil {
					h.t.Errorf("%s: %v", address, err)
					return
				}
				took[i] = append(took[i], time.Since(before))
			}
		})
	}
	asking.Wait()
	perSecond = 1 / time.Since(start).Seconds()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	return perSecond * float64(len(all)), float64(all[len(all)*99/100]) / float64(time.Microsecond)
}
