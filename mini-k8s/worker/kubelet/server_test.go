package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// Logs notes with which options it was asked.
func (b *breakable) Logs(ctx context.Context, id string, options runtime.LogOptions, out io.Writer) error {
	b.mu.Lock()
	b.logs = append(b.logs, options)
	b.mu.Unlock()
	if options.Follow {
		io.WriteString(out, "first ")
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := io.WriteString(out, "log of "+id)
	return err
}

func (b *kubeletBench) ask(path string) (int, string) {
	b.t.Helper()
	answer := httptest.NewRecorder()
	all := func(*http.Request) bool { return true }
	b.kubelet.Handler(all).ServeHTTP(answer, httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, path, nil))
	return answer.Code, strings.TrimSpace(answer.Body.String())
}

func TestOnlyWhoIsAllowedReadsLogs(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create()
		b.waitState("running", 0)
		handler := b.kubelet.Handler(func(r *http.Request) bool { return r.Header.Get("Who") == "friend" })
		for who, want := range map[string]int{"friend": http.StatusOK, "stranger": http.StatusForbidden} {
			for _, path := range []string{"/containerLogs/default/web/app", "/anything"} {
				r, answer := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
				r.Header.Set("Who", who)
				handler.ServeHTTP(answer, r)
				if path == "/anything" && who == "friend" {
					want = http.StatusNotFound
				}
				if answer.Code != want {
					t.Errorf("%s gets %d from %s, want %d", who, answer.Code, path, want)
				}
			}
		}
	})
}

func TestLogsOfAContainerAndOfTheOneBefore(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create()
		b.waitState("running", 0)
		first := b.held(pod.UID).Containers[0].ID
		if code, text := b.ask("/containerLogs/default/web/app"); code != http.StatusOK || text != "log of "+first {
			t.Errorf("%d %s", code, text)
		}
		if code, text := b.ask("/containerLogs/default/web/app?limitBytes=5"); code != http.StatusOK || text != "log o" {
			t.Errorf("5 bytes: %d %s", code, text)
		}
		if code, text := b.ask("/containerLogs/default/web/app?previous=true"); code != http.StatusBadRequest ||
			text != `previous terminated container "app" in pod "web" not found` {
			t.Errorf("before there is one: %d %s", code, text)
		}
		b.runtime.Exit(pod.UID, "app", 1)
		b.waitState("running", 1)
		second := b.held(pod.UID).Containers[0].ID
		if code, text := b.ask("/containerLogs/default/web/app"); code != http.StatusOK || text != "log of "+second || first == second {
			t.Errorf("after a restart: %d %s", code, text)
		}
		if code, text := b.ask("/containerLogs/default/web/app?previous=true"); code != http.StatusOK || text != "log of "+first {
			t.Errorf("of the one before: %d %s", code, text)
		}
	})
}

func TestLogsThatCannotBeReadSayWhy(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.noImages.Store(true)
		b.create()
		b.waitState("waiting ErrImagePull", 0)
		b.eventually("the kubelet sees its own report", func() bool {
			_, text := b.ask("/containerLogs/default/web/app")
			return text == `container "app" in pod "web" is waiting to start: ErrImagePull`
		})
		for path, want := range map[string]int{
			"/containerLogs/default/web/app":                     http.StatusBadRequest,
			"/containerLogs/default/none/app":                    http.StatusNotFound,
			"/containerLogs/other/web/app":                       http.StatusNotFound,
			"/containerLogs/default/web/app?tailLines=many":      http.StatusBadRequest,
			"/containerLogs/default/web/app?tailLines=-1":        http.StatusBadRequest,
			"/containerLogs/default/web/app?sinceSeconds=0":      http.StatusBadRequest,
			"/containerLogs/default/web/app?sinceTime=yesterday": http.StatusBadRequest,
			"/containerLogs/default/web/app?limitBytes=0":        http.StatusBadRequest,
			"/exec/default/none/app?command=a":                   http.StatusNotFound,
			"/portForward/default/none":                          http.StatusNotFound,
		} {
			if code, text := b.ask(path); code != want || text == "" {
				t.Errorf("%s: %d %q, want %d", path, code, text, want)
			}
		}
	})
}

func TestLogOptionsReachTheRuntime(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create()
		b.waitState("running", 0)
		b.ask("/containerLogs/default/web/app")
		b.ask("/containerLogs/default/web/app?timestamps=true&tailLines=5&sinceSeconds=60")
		b.ask("/containerLogs/default/web/app?sinceTime=2026-03-01T12:00:00Z")
		plain, all, since := b.runtime.logs[0], b.runtime.logs[1], b.runtime.logs[2]
		if plain != (runtime.LogOptions{}) {
			t.Errorf("asked for nothing special: %+v", plain)
		}
		if !all.Timestamps || *all.Tail != 5 || time.Since(all.Since).Round(time.Second) != time.Minute {
			t.Errorf("asked for time stamps and 5 lines of the last minute: %+v", all)
		}
		if !since.Since.Equal(noon) {
			t.Errorf("asked for what came since noon: %+v", since)
		}
	})
}

func TestLogsThatAreFollowedComeAtOnceAndEndWithTheirReader(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create()
		b.waitState("running", 0)
		ctx, cancel := context.WithCancel(t.Context())
		answer := &flushes{ResponseRecorder: httptest.NewRecorder(), flushed: make(chan string, 10)}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			all := func(*http.Request) bool { return true }
			b.kubelet.Handler(all).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/containerLogs/default/web/app?follow=true", nil))
		}()
		if header, text := <-answer.flushed, <-answer.flushed; header != "" || text != "first " {
			t.Errorf("at once came %q, then %q", header, text)
		}
		cancel()
		<-ended
		if got := answer.Body.String(); got != "first " {
			t.Errorf("in the end it was told %q", got)
		}
	})
}

func TestSessionsThatCannotBeginSayWhy(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
		b.waitState("running", 0)
		for path, want := range map[string]string{
			"/exec/default/web/app?command=a&stdout=true": "unable to upgrade: header X-Stream-Protocol-Version does not exist",
			"/exec/default/web/other?command=a":           `container "other" in pod "web" does not run`,
			"/attach/default/web/other":                   `container "other" in pod "web" does not run`,
			"/portForward/default/web":                    "unable to upgrade: header X-Stream-Protocol-Version does not exist",
		} {
			if code, text := b.ask(path); code != http.StatusBadRequest || !strings.Contains(text, want) {
				t.Errorf("%s: %d %q", path, code, text)
			}
		}
		b.runtime.Exit(pod.UID, "app", 0)
		b.runtime.KillSandbox(pod.UID)
		for path, want := range map[string]string{
			"/exec/default/web/app?command=a": `container "app" in pod "web" does not run`,
			"/portForward/default/web":        `pod "web" does not run`,
		} {
			if code, text := b.ask(path); code != http.StatusBadRequest || text != want {
				t.Errorf("%s: %d %q", path, code, text)
			}
		}
	})
}

func TestOutcomeTellsTheExitCodeAsTheRealKubeletDoes(t *testing.T) {
	for _, row := range []struct {
		code int
		err  error
		want string
	}{
		{0, nil, `{"metadata":{},"status":"Success"}`},
		{3, nil, `{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}`},
		{0, errors.New("no Docker"), `{"metadata":{},"status":"Failure","message":"Internal error occurred: no Docker","reason":"InternalError","details":{"causes":[{"message":"no Docker"}]},"code":500}`},
	} {
		if got, err := json.Marshal(outcome(row.code, row.err)); err != nil || string(got) != row.want {
			t.Errorf("%d %v: %s (%v)", row.code, row.err, got, err)
		}
	}
}

// flushes tells what has been written at each flush.
type flushes struct {
	*httptest.ResponseRecorder
	flushed chan string
}

func (f *flushes) Flush() { f.flushed <- f.Body.String() }

func TestWhyThereIsNoLogOfAnInitContainer(t *testing.T) {
	pod := newPod(inits("a"))
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	if got := noLogs(pod, "a", false); !strings.HasSuffix(got, "waiting to start: ImagePullBackOff") {
		t.Error(got)
	}
	if got := noLogs(pod, "app", false); !strings.HasSuffix(got, "waiting to start: ContainerCreating") {
		t.Error(got)
	}
}
