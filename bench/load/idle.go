package main

import (
	"time"
)

// hold keeps -c connections open with one request each and reports what they cost in memory.
func (l *loop) hold() map[string]any {
	l.onDone = func(c *conn) {}
	before := l.proc.rss()
	subs := l.connectAll(*fC, &l.addr, func(c *conn) { l.issue(c, 0) })
	heads := 0
	for limit := now() + int64(*fSettle); heads < len(subs) && now() < limit; {
		l.wait(20 * time.Millisecond)
		heads = 0
		for _, c := range subs {
			if c.resp.state != stHead {
				heads++
			}
		}
	}
	cpu, began := l.proc.cpu(), now()
	for end := now() + int64(*fHold); now() < end; {
		l.wait(100 * time.Millisecond)
	}
	held := l.proc.rss()
	n := float64(len(subs))
	return map[string]any{"subscribers": len(subs), "heads": heads, "open": l.inFly,
		"rss_start_mb": mb(before), "rss_held_mb": mb(held), "rss_per_subscriber_kb": float64(held-before) / 1024 / n,
		"idle_core_share": (l.proc.cpu() - cpu) / (float64(now()-began) / 1e9)}
}
