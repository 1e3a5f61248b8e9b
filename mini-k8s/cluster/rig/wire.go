package rig

// The cables and the switch. Each host's eth0 is a TAP device, whose other end is a file that this process reads and
// writes: so every frame passes through here, and can be lost or come late, whatever the kernel was built with.

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	largestFrame = 1514 // bytes
	// queue is how many frames may be on the way to a host; what comes then is lost, as in a real switch.
	queue = 4096
)

// wire joins the hosts of a rig.
type wire struct {
	mu     sync.Mutex // guards cables and their faults
	cables []*cable
}

// cable leads to one host.
type cable struct {
	tap    *os.File
	mac    []byte
	onWay  chan frame
	cut    bool
	drop   int           // percent of the frames, each way
	delay  time.Duration // each way
	reader sync.WaitGroup
}

type frame struct {
	data []byte
	due  time.Time
}

// attach makes eth0 in the network namespace of the calling thread.
func (w *wire) attach(mac []byte) (*cable, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("eth0")
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make eth0: %w", err)
	}
	c := &cable{tap: os.NewFile(uintptr(fd), "eth0"), mac: mac, onWay: make(chan frame, queue)}
	w.mu.Lock()
	w.cables = append(w.cables, c)
	w.mu.Unlock()
	c.reader.Go(func() { w.read(c) })
	go c.write()
	return c, nil
}

// read passes on what the host sends, until it is detached.
func (w *wire) read(from *cable) {
	for {
		buffer := make([]byte, largestFrame)
		n, err := from.tap.Read(buffer)
		if err != nil {
			return
		}
		w.pass(from, buffer[:n])
	}
}

func (w *wire) pass(from *cable, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, to := range w.cables {
		const groupBit = 1 // of a MAC: for several hosts
		if to == from || data[0]&groupBit == 0 && !bytes.Equal(data[:6], to.mac) {
			continue
		}
		if from.loses() || to.loses() {
			continue
		}
		select {
		case to.onWay <- frame{data, time.Now().Add(from.delay + to.delay)}:
		default:
		}
	}
}

func (c *cable) loses() bool { return c.cut || rand.IntN(100) < c.drop }

// write hands over to the host what has come for it, in order.
func (c *cable) write() {
	for f := range c.onWay {
		time.Sleep(time.Until(f.due))
		c.tap.Write(f.data) // a frame that a host does not take is lost
	}
}

// detach ends the cable; eth0 goes with it.
func (w *wire) detach(c *cable) {
	c.tap.Close()
	c.reader.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.cables {
		if other == c {
			w.cables = append(w.cables[:i], w.cables[i+1:]...)
			close(c.onWay) // nobody else sends once it is not in the list
			return
		}
	}
}

func (w *wire) change(c *cable, fault func(*cable)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fault(c)
}
