// load: one-thread epoll load generator for HTTP gateways and SSE servers.
//
// Modes: unary, stream, dup (identical streams at once, counts upstream calls) and idle (subscribers
// that are held open: what one costs in memory). It prints one JSON object. Every run is bounded by
// -n and -d, and -d is at most 120 s.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type headers []string

func (h *headers) String() string     { return strings.Join(*h, ", ") }
func (h *headers) Set(v string) error { *h = append(*h, v); return nil }

var (
	fMode     = flag.String("mode", "unary", "unary, stream, dup or idle")
	fURL      = flag.String("url", "http://127.0.0.1:9100/v1/chat/completions", "target")
	fMethod   = flag.String("method", "", "POST with a chat body (default), or GET without one")
	fC        = flag.Int("c", 32, "connections")
	fN        = flag.Int64("n", 1000000, "requests at most")
	fD        = flag.Duration("d", 5*time.Second, "time at most (no new request after it)")
	fGrace    = flag.Duration("grace", 15*time.Second, "wait at most this long for what is in flight at the end")
	fRate     = flag.Float64("rate", 0, "open loop: requests per second (0: closed loop)")
	fKeys     = flag.String("keys", "unique", "unique, same, zipf, uniform or seq (over -keyspace)")
	fKeyspace = flag.Int("keyspace", 1000, "keys for zipf, uniform and seq")
	fZipf     = flag.Float64("zipf-s", 1.1, "zipf exponent (over 1)")
	fSalt     = flag.String("salt", "", "part of every key (default: the time, so no run meets another's cache)")
	fSeed     = flag.Int64("seed", 1, "seed of the key choice")
	fModel    = flag.String("model", "sim", "model name in the body")
	fExtra    = flag.String("extra", "", `JSON members added to the body, e.g. "temperature":0`)
	fPrompt   = flag.Int("prompt-bytes", 300, "size of the user message")
	fVerify   = flag.Bool("verify", true, "check the delivered text")
	fTokens   = flag.Int("tokens", 100, "tokens per answer that the upstream gives")
	fStamp    = flag.Bool("stamp", false, "the tokens carry ~seq~unixnano~ (upstream -stamp)")
	fUpstream = flag.String("upstream", "", "base URL of the simulator, for /stats before and after")
	fPid      = flag.String("pid", "", "server pids, by comma: CPU and memory of their trees are reported")
	fHold     = flag.Duration("hold", 3*time.Second, "idle: how long to hold the subscribers")
	fSettle   = flag.Duration("settle", 1500*time.Millisecond, "idle: wait for response heads at most so long after the last connect")
	hdrs      headers
)

func now() int64 { return time.Now().UnixNano() }

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func target(u string) (syscall.SockaddrInet4, string, string) {
	p, err := url.Parse(u)
	die(err)
	ip := net.ParseIP(p.Hostname()).To4()
	if ip == nil || !ip.IsLoopback() {
		die(fmt.Errorf("%s: only 127.x.x.x targets", u))
	}
	port, err := strconv.Atoi(p.Port())
	die(err)
	var a syscall.SockaddrInet4
	copy(a.Addr[:], ip)
	a.Port = port
	return a, p.Host, p.RequestURI()
}

func main() {
	flag.Var(&hdrs, "H", "request header, may be given more than once")
	flag.Parse()
	if *fD > 120*time.Second {
		*fD = 120 * time.Second
	}
	debug.SetGCPercent(400)
	if *fSalt == "" {
		*fSalt = strconv.FormatInt(now(), 36)
	}
	var lim syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)
	lim.Cur = lim.Max
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	die(err)
	l := &loop{ep: ep, rbuf: make([]byte, 1<<18), scratch: make([]byte, 0, 4096), errs: map[string]int64{}, status: map[string]int64{}, ids: map[string]int64{}}
	l.addr, l.host, l.path = target(*fURL)
	for _, p := range strings.Split(*fPid, ",") {
		if v, err := strconv.Atoi(p); err == nil {
			l.proc.roots = append(l.proc.roots, v)
		}
	}
	l.rnd = rand.New(rand.NewSource(*fSeed))
	l.zipf = rand.NewZipf(l.rnd, *fZipf, 1, uint64(*fKeyspace-1))
	for i := 1; i < *fTokens; i++ {
		l.suffix = append(l.suffix, " w"...)
		l.suffix = strconv.AppendInt(l.suffix, int64(i-1), 10)
	}
	method := *fMethod
	if method == "" {
		method = "POST"
		if *fMode == "idle" {
			method = "GET"
		}
	}
	head := method + " " + l.path + " HTTP/1.1\r\nHost: " + l.host + "\r\n"
	for _, h := range hdrs {
		head += h + "\r\n"
	}
	l.stream = *fMode == "stream" || *fMode == "dup"
	if method == "POST" {
		l.chatReq = true
		accept := "application/json"
		if l.stream {
			accept = "text/event-stream"
		}
		head += "Accept: " + accept + "\r\nContent-Type: application/json\r\nContent-Length: "
		m, _ := json.Marshal(*fModel)
		l.mid = []byte(`{"model":` + string(m) + `,"messages":[{"role":"system","content":"` + system + `"},{"role":"user","content":"`)
		post := `"}]`
		if l.stream {
			post += `,"stream":true`
		}
		if *fExtra != "" {
			post += "," + *fExtra
		}
		l.post = []byte(post + "}")
	} else {
		if *fMode == "idle" {
			head += "Accept: text/event-stream\r\n\r\n"
		} else {
			head += "Accept: */*\r\n\r\n"
		}
	}
	l.reqHead = []byte(head)
	l.onData = l.dataUnary
	var r map[string]any
	switch *fMode {
	case "unary":
		r = l.requests()
	case "stream", "dup":
		l.onData = l.dataStream
		r = l.requests()
	case "idle":
		r = l.hold()
	default:
		die(fmt.Errorf("no mode %q", *fMode))
	}
	r["mode"], r["connections"], r["errors"], r["status"] = *fMode, *fC, l.errs, l.status
	if len(l.samples) > 0 {
		r["error_samples"] = l.samples
	}
	b, _ := json.Marshal(r)
	fmt.Println(string(b))
}
