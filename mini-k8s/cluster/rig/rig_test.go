package rig

import (
	"testing"
	"time"
)

func TestFaultsOfACable(t *testing.T) {
	r := New(t, 2)
	a, b := r.Hosts[0], r.Hosts[1]
	a.Start("hello")
	url := "http://" + a.Address + ":8080"
	hears := func() error { _, err := b.Get(url); return err }
	r.Eventually("one host hears the other", hears)

	a.Delay(50 * time.Millisecond)
	start := time.Now()
	if err := hears(); err != nil || time.Since(start) < 200*time.Millisecond { // there and back, to connect and to ask
		t.Errorf("with a delay it takes %v (%v)", time.Since(start), err)
	}
	a.Heal()
	b.Cut()
	if err := hears(); err == nil {
		t.Error("a host hears through a cable that is cut")
	}
	b.Heal()
	r.Eventually("it hears again when the cable is healed", hears)
	b.Drop(100)
	if err := hears(); err == nil {
		t.Error("a host hears, though all frames are lost")
	}
	b.Drop(20)
	r.Eventually("it hears though some are", hears)
}
