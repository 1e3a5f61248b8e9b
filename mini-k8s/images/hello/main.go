// Hello is the program that the workshop deploys: a web server that says which pod answered.
//
//	hello              serve on $PORT (8080), after $DELAY (0s); GET / tells pod, node and version, GET /healthz is 200,
//	                   or 503 from a POST /ill until a POST /well: for probes to find
//	hello exit N       end at once with that code: a crash loop in one line
//	hello sleep [N]    run N seconds, or until it is told to end
//	hello stay         run, whatever it is told: only SIGKILL ends it
//	hello eat N        take N MiB of memory, and keep it
//	hello log N        write N lines to standard output and as many to standard error, then end
//	hello size         write the size of its terminal, and again whenever it changes, until it is told to end
//	hello load URL N   send N requests a second to the URL, until it is told to end; GET /burn/20 is work for 20 ms of CPU
//	hello get URL      print what the URL answers: a curl for an image that has no shell
//	hello env          print the environment
//	hello id           print user, group and further groups
//	hello cat          write what it reads, and how much that was to standard error
//	hello read FILE... print files
//	hello write FILE TEXT
//	                   make a file of it
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	log.SetOutput(os.Stdout)
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	args := append(os.Args[1:], "", "", "")
	number, _ := strconv.Atoi(args[1]) // 0 if there is none
	var err error
	switch args[0] {
	case "":
		err = serve(ctx)
	case "exit":
		os.Exit(number)
	case "sleep":
		if number > 0 {
			time.AfterFunc(time.Duration(number)*time.Second, stop)
		}
		<-ctx.Done()
	case "stay":
		for {
			time.Sleep(time.Hour)
		}
	case "eat":
		meal := bytes.Repeat([]byte{1}, number<<20) // it is not taken before something is in it
		<-ctx.Done()
		runtime.KeepAlive(meal)
	case "log":
		for i := range number {
			fmt.Fprintln(os.Stdout, "line", i+1)
			fmt.Fprintln(os.Stderr, "error line", i+1)
		}
	case "cat":
		var count int64
		count, err = io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintln(os.Stderr, count, "bytes")
	case "size":
		err = size(ctx)
	case "load":
		rate, _ := strconv.Atoi(args[2])
		err = load(ctx, args[1], rate)
	case "get":
		err = get(args[1])
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "id":
		groups, _ := os.Getgroups()
		fmt.Println("user", os.Getuid(), "group", os.Getgid(), "groups", groups)
	case "read":
		err = read(os.Args[2:])
	case "write":
		err = os.WriteFile(args[1], []byte(args[2]+"\n"), 0o644)
	default:
		err = fmt.Errorf("hello knows exit, sleep, stay, eat, log, cat, size, load, get, env, id, read and write, not %q", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// leave is how long it goes on to serve after it was told to end: the word that it leaves is still on its way to those who
// send it requests. Real programs do so as well, or have a preStop hook that does no more than wait.
const leave = time.Second

// serve answers until a while after the context ends, then finishes the requests that it has.
func serve(ctx context.Context) error {
	delay, err := time.ParseDuration(cmp.Or(os.Getenv("DELAY"), "0s"))
	if err != nil {
		return fmt.Errorf("DELAY: %w", err)
	}
	time.Sleep(delay)
	// First of all: a pod without a readiness probe gets requests as soon as it runs.
	port, err := net.Listen("tcp", ":"+cmp.Or(os.Getenv("PORT"), "8080"))
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	pod := cmp.Or(os.Getenv("POD_NAME"), host)
	greeting := fmt.Sprintf("hello from %s on %s, version %s\n", pod,
		cmp.Or(os.Getenv("NODE_NAME"), "an unknown node"), cmp.Or(os.Getenv("VERSION"), "unknown"))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
		io.WriteString(w, greeting)
	})
	mux.HandleFunc("GET /burn/{milliseconds}", burn)
	var ill atomic.Bool
	mux.HandleFunc("POST /ill", func(http.ResponseWriter, *http.Request) { ill.Store(true) })
	mux.HandleFunc("POST /well", func(http.ResponseWriter, *http.Request) { ill.Store(false) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if ill.Load() {
			http.Error(w, "ill", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	drained := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		log.Print("told to end: leaving, then finishing open requests")
		server.SetKeepAlivesEnabled(false)
		time.Sleep(leave)
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		drained <- server.Shutdown(timeout)
	})
	log.Printf("listening on :%d; I say: %s", port.Addr().(*net.TCPAddr).Port, greeting[:len(greeting)-1])
	if err := server.Serve(port); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func size(ctx context.Context) error {
	for before := ""; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		width, height, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			return err
		}
		if now := fmt.Sprintf("%d x %d", width, height); now != before {
			fmt.Println(now)
			before = now
		}
	}
	return nil
}

func read(paths []string) error {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		os.Stdout.Write(data)
	}
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}
