package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"
)

func getJSON(u string) map[string]any {
	h := http.Client{Timeout: 10 * time.Second}
	r, err := h.Get(u)
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	var m map[string]any
	json.Unmarshal(b, &m)
	return m
}

func (l *loop) connectAll(n int, a *syscall.SockaddrInet4, each func(*conn)) []*conn {
	all := make([]*conn, 0, n)
	limit := now() + int64(30*time.Second)
	for len(all) < n {
		var batch []*conn
		for len(batch) < 100 && len(all)+len(batch) < n {
			c, err := l.open(a)
			die(err)
			batch = append(batch, c)
		}
		for {
			left := 0
			for _, c := range batch {
				if c.fd >= 0 && !c.up {
					left++
				}
			}
			if left == 0 {
				break
			}
			if now() > limit {
				die(fmt.Errorf("could not connect in 30 s"))
			}
			l.wait(5 * time.Millisecond)
		}
		all = append(all, batch...)
		if each != nil {
			for _, c := range batch {
				if c.fd >= 0 {
					each(c)
				}
			}
		}
	}
	return all
}

func (l *loop) requests() map[string]any {
	conns := l.connectAll(*fC, &l.addr, nil)
	if len(l.errs) > 0 {
		die(fmt.Errorf("connecting: %v", l.errs))
	}
	before := map[string]any(nil)
	if *fUpstream != "" {
		before = getJSON(*fUpstream + "/stats")
	}
	if *fMode == "dup" {
		*fN = int64(*fC)
		if *fRate == 0 {
			*fKeys = "same"
		}
	}
	cpu0, self0 := l.proc.cpu(), selfCPU()
	rss0 := l.proc.rss()
	l.start = now()
	l.endAt = l.start + int64(*fD)
	hard := l.endAt + int64(*fGrace)
	l.onDone = func(c *conn) {
		t := now()
		if *fRate > 0 {
			if l.pendAt < len(l.pending) {
				s := l.pending[l.pendAt]
				l.pendAt++
				c = l.again(c)
				if c != nil {
					l.late.add(t - s)
					l.issue(c, s)
				}
				return
			}
			l.idle = append(l.idle, c)
			return
		}
		if l.issued < *fN && t < l.endAt {
			if c = l.again(c); c != nil {
				l.issue(c, 0)
			}
		}
	}
	if *fRate > 0 {
		l.idle = append(l.idle, conns...)
		gap := 1e9 / *fRate
		var k int64
		for {
			t := now()
			if t > hard {
				break
			}
			due := l.start + int64(float64(k)*gap)
			for k < *fN && due <= t && due < l.endAt {
				k++
				if n := len(l.idle); n > 0 {
					c := l.idle[n-1]
					l.idle = l.idle[:n-1]
					if c = l.again(c); c != nil {
						l.late.add(t - due)
						l.issue(c, due)
					}
				} else {
					l.pending = append(l.pending, due)
				}
				due = l.start + int64(float64(k)*gap)
			}
			more := k < *fN && due < l.endAt
			if !more && l.inFly == 0 && l.pendAt >= len(l.pending) {
				break
			}
			d := time.Duration(due - now())
			if !more || d > 100*time.Millisecond {
				d = 100 * time.Millisecond
			}
			l.wait(d)
		}
	} else {
		for _, c := range conns {
			if l.issued < *fN {
				l.issue(c, 0)
			}
		}
		for l.inFly > 0 && now() < hard {
			l.wait(100 * time.Millisecond)
		}
	}
	end := now()
	if l.inFly > 0 {
		l.errs["unfinished"] += l.inFly
	}
	if n := len(l.pending) - l.pendAt; n > 0 {
		l.errs["never sent"] += int64(n)
	}
	cpu1, self1 := l.proc.cpu(), selfCPU()
	rss1 := l.proc.rss()
	wall := float64(end-l.start) / 1e9
	r := map[string]any{"wall_s": wall, "requests": l.issued, "ok": l.okN, "rps": float64(l.okN) / wall,
		"latency": l.lat.summary(), "bytes_in": l.bytesN, "reconnects": l.reopen,
		"gen_core_share": (self1 - self0) / wall}
	if l.late.n > 0 {
		r["send_delay"] = l.late.summary()
	}
	if l.stream {
		r["ttft"], r["token_gap"] = l.ttft.summary(), l.gap.summary()
		r["events"], r["tokens"], r["tokens_per_s"] = l.evN, l.tokN, float64(l.tokN)/wall
		if *fStamp {
			r["token_lag"] = l.lag.summary()
		}
	}
	if len(l.proc.roots) > 0 {
		cpu := cpu1 - cpu0
		r["server_cpu_s"], r["server_core_share"] = cpu, cpu/wall
		r["rss_start_mb"], r["rss_end_mb"], r["rss_peak_mb"] = mb(rss0), mb(rss1), mb(l.proc.peak)
		if l.okN > 0 {
			r["cpu_us_per_request"] = cpu * 1e6 / float64(l.okN)
		}
		if l.tokN > 0 {
			r["cpu_us_per_token"] = cpu * 1e6 / float64(l.tokN)
			r["tokens_per_core_s"] = float64(l.tokN) / cpu
		}
	}
	if before != nil {
		time.Sleep(300 * time.Millisecond)
		after := getJSON(*fUpstream + "/stats")
		d := map[string]any{}
		for _, k := range []string{"requests", "unary", "streams", "completed", "cancelled", "rejected_429", "connections", "cpu_s"} {
			a, _ := after[k].(float64)
			b, _ := before[k].(float64)
			d[k] = a - b
		}
		d["max_concurrent_ever"] = after["max_concurrent"]
		d["core_share"] = d["cpu_s"].(float64) / wall
		r["upstream"] = d
	}
	if *fMode == "dup" {
		r["distinct_ids"] = len(l.ids)
		r["all_identical"] = l.okN == int64(*fC) && l.wrong == 0
	}
	return r
}

// again gives back the connection, opened anew where it was closed.
func (l *loop) again(c *conn) *conn {
	if c.fd >= 0 {
		return c
	}
	n, err := l.open(&l.addr)
	if err != nil {
		l.fault("reopen: "+err.Error(), "")
		return nil
	}
	return n
}

func mb(v int64) float64 { return float64(v*10/(1<<20)) / 10 }
