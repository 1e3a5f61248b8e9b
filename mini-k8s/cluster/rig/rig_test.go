package rig

import (
	"testing"
	"time"
)

func TestHosts(t *testing.T) {
	start := time.Now()
	r := New(t, 2)
	t.Log("built", time.Since(start))
	a, b := r.Hosts[0], r.Hosts[1]
	a.Start("hello")
	r.Eventually("b hears a", func() error { _, err := b.Get("http://" + a.Address + ":8080"); return err })
	t.Log("heard", time.Since(start))
	r.Up()
	t.Log("up", time.Since(start))
	t.Log(a.Run("ip", "route"), b.Run("ip", "route"), a.Run("ps", "ax"))
}
