package clientgo_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/features"
	featuretesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/tools/cache"
)

// informing is an informer of ConfigMaps under way, and what it has told.
type informing struct {
	cluster *cluster
	cache.SharedIndexInformer
	mu      sync.Mutex // guards told and watches
	told    []string   // "add a=1", "update a=1 a=2", "delete a=2"; a resync that shows nothing new does not count
	watches []string   // the options of each: "5" for its revision, "list from 5" for one in place of a list

	gate sync.Mutex // held by a test while no watch may begin
}

// inform starts an informer of what the selector selects.
func (c *cluster) inform(selector string) *informing {
	c.t.Helper()
	i := &informing{cluster: c}
	i.SharedIndexInformer = cache.NewSharedIndexInformer(&cache.ListWatch{
		ListFunc: func(options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			return c.maps().List(c.ctx, options)
		},
		WatchFunc: func(options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = selector
			text := options.ResourceVersion
			if options.SendInitialEvents != nil && *options.SendInitialEvents {
				text = "list from " + text
			}
			i.mu.Lock()
			i.watches = append(i.watches, text)
			i.mu.Unlock()
			i.gate.Lock()
			defer i.gate.Unlock()
			return c.maps().Watch(c.ctx, options)
		},
	}, &corev1.ConfigMap{}, 0, nil)
	tell := func(format string, values ...any) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.told = append(i.told, fmt.Sprintf(format, values...))
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { tell("add %s", textOf(o)) },
		UpdateFunc: func(old, new any) {
			if textOf(old) != textOf(new) {
				tell("update %s %s", textOf(old), textOf(new))
			}
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			tell("delete %s", textOf(o))
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Go(func() { i.Run(stop) })
	c.t.Cleanup(func() { close(stop); running.Wait() })
	if !cache.WaitForCacheSync(c.ctx.Done(), i.HasSynced) {
		c.t.Fatal("the informer never knew all")
	}
	return i
}

func textOf(o any) string {
	m := o.(*corev1.ConfigMap)
	return m.Name + "=" + m.Data["value"]
}

// expect waits until the informer has told as much as is wanted since the last time, and checks that it is this.
func (i *informing) expect(want ...string) {
	i.cluster.t.Helper()
	if got := i.take(len(want)); !slices.Equal(got, want) {
		i.cluster.t.Fatalf("told %q, want %q", got, want)
	}
}

// expectAll is expect for what comes in no order: the objects of a list.
func (i *informing) expectAll(want ...string) {
	i.cluster.t.Helper()
	got := slices.Sorted(slices.Values(i.take(len(want))))
	if slices.Sort(want); !slices.Equal(got, want) {
		i.cluster.t.Fatalf("told %q, want %q", got, want)
	}
}

// take returns what the informer has told, as soon as there is so much.
func (i *informing) take(count int) (told []string) {
	i.cluster.t.Helper()
	i.cluster.eventually(fmt.Sprintf("%d things are told", count), func() bool {
		i.mu.Lock()
		defer i.mu.Unlock()
		enough := len(i.told) >= count
		if enough {
			told, i.told = i.told, nil
		}
		return enough
	})
	return told
}

// begins returns how often the informer has begun to watch, and how it did last.
func (i *informing) begins() (int, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.watches), i.watches[len(i.watches)-1]
}

// eachWay runs a test with informers that stream their list (KEP-3157), and with those that list and then watch.
func eachWay(t *testing.T, test func(c *cluster, streams bool)) {
	for name, streams := range map[string]bool{"streaming its list": true, "listing": false} {
		t.Run(name, func(t *testing.T) {
			featuretesting.SetFeatureDuringTest(t, features.WatchListClient, streams)
			test(newCluster(t), streams)
		})
	}
}

func TestInformerTellsWhatIsThereAndWhatChanges(t *testing.T) {
	eachWay(t, func(c *cluster, streams bool) {
		c.put("a", "web", "1")
		i := c.inform("")
		if _, watch := i.begins(); strings.HasPrefix(watch, "list") != streams {
			c.t.Errorf("it began with %q", watch)
		}
		c.put("b", "web", "1")
		c.put("a", "web", "2")
		c.delete("b")
		i.expect("add a=1", "add b=1", "update a=1 a=2", "delete b=1")
	})
}

func TestInformerSeesAnObjectGoThatItsSelectorNoLongerMeets(t *testing.T) {
	c := newCluster(t)
	c.put("a", "web", "1")
	i := c.inform("app=web")
	c.put("a", "db", "2")
	c.put("a", "db", "3")
	c.put("a", "web", "4")
	c.delete("a")
	i.expect("add a=1", "delete a=2", "add a=4", "delete a=4")
}

// After a cut an informer that lists goes on where it was and tells every change. One that streams lists again, and what
// it has not seen by then is one change for each object.
func TestInformerGoesOnAfterItsConnectionWasCutWithoutLosingOrDoubling(t *testing.T) {
	eachWay(t, func(c *cluster, streams bool) {
		i := c.inform("")
		var changes []string
		there := map[string]string{} // name -> as textOf has it
		for n := range 40 {
			name := fmt.Sprintf("m%d", n%7)
			old, now := there[name], fmt.Sprintf("%s=%d", name, n)
			if old != "" && n%5 == 4 {
				c.delete(name)
				delete(there, name)
				changes = append(changes, "delete "+old)
				continue
			}
			if c.put(name, "web", fmt.Sprint(n)); old == "" {
				changes = append(changes, "add "+now)
			} else {
				changes = append(changes, "update "+old+" "+now)
			}
			there[name] = now
			if n%20 == 15 {
				before, _ := i.begins()
				c.cut()
				c.eventually("a watch after the cut", func() bool { after, _ := i.begins(); return after > before })
				if _, watch := i.begins(); !streams && (watch == "0" || watch == "") {
					c.t.Errorf("it forgot where it was: %q", watch)
				}
			}
		}
		if !streams {
			i.expect(changes...)
			return
		}
		known := map[string]string{}
		c.eventually("it knows what is there", func() bool {
			for _, told := range i.take(0) {
				words := strings.Fields(told)
				last := words[len(words)-1]
				name, _, _ := strings.Cut(last, "=")
				if old := known[name]; words[0] == "add" && old != "" || words[0] == "update" && old != words[1] || words[0] == "delete" && old != last {
					c.t.Errorf("told %q of what was %q", told, old)
				}
				if known[name] = last; words[0] == "delete" {
					delete(known, name)
				}
			}
			return maps.Equal(known, there)
		})
	})
}

func TestInformerThatSleptOverACompactionKnowsWhatHappened(t *testing.T) {
	eachWay(t, func(c *cluster, streams bool) {
		c.put("changes", "web", "1")
		c.put("goes", "web", "1")
		c.put("stays", "web", "1")
		i := c.inform("")
		i.expectAll("add changes=1", "add goes=1", "add stays=1")
		i.gate.Lock()
		c.cut()
		c.eventually("its watch has ended", func() bool { begun, _ := i.begins(); return begun == 2 })
		c.put("changes", "web", "2")
		c.put("comes", "web", "1")
		c.delete("goes")
		c.forget()
		i.gate.Unlock()
		i.expectAll("update changes=1 changes=2", "add comes=1", "delete goes=1")
		// A list that is streamed is as new as it can be; a watch is told that its place is gone.
		if begun, _ := i.begins(); begun != map[bool]int{true: 2, false: 3}[streams] {
			c.t.Errorf("it began %d watches", begun)
		}
	})
}
