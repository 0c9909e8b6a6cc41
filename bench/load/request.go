package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

func (l *loop) fault(kind, sample string) {
	l.errs[kind]++
	if sample != "" && len(l.samples) < 5 {
		if len(sample) > 300 {
			sample = sample[:300]
		}
		l.samples = append(l.samples, sample)
	}
}

func (l *loop) keyNo(i int64) int64 {
	switch *fKeys {
	case "same":
		return 0
	case "zipf":
		return int64(l.zipf.Uint64())
	case "uniform":
		return l.rnd.Int63n(int64(*fKeyspace))
	case "seq":
		return i % int64(*fKeyspace)
	}
	return i
}

const system = "You are a helpful assistant."

func (l *loop) user(k int64) string {
	s := "Question " + *fSalt + "/" + strconv.FormatInt(k, 10) + ": "
	if n := *fPrompt - len(s); n > 0 {
		s += strings.Repeat("lorem ipsum dolor sit amet ", n/27+1)[:n]
	}
	return s
}

func (l *loop) issue(c *conn, sched int64) {
	c.resp.reset()
	c.line, c.body = c.line[:0], c.body[:0]
	c.busy, c.bad, c.done, c.fail = true, false, false, ""
	c.firstB, c.firstT, c.last, c.tokens, c.evs, c.off, c.id = 0, 0, 0, 0, 0, 0, ""
	c.sched = sched
	i := l.issued
	l.issued++
	l.inFly++
	if l.chatReq {
		k := l.keyNo(i)
		c.key = k
		u := l.user(k)
		if *fVerify {
			h := sha256.Sum256([]byte("system\x00" + system + "\x00user\x00" + u + "\x00"))
			c.prefix[0] = 'h'
			hex.Encode(c.prefix[1:], h[:6])
		}
		n := len(l.mid) + len(u) + len(l.post)
		c.out = append(c.out[:0:0], l.reqHead...)
		c.out = strconv.AppendInt(c.out, int64(n), 10)
		c.out = append(c.out, "\r\n\r\n"...)
		c.out = append(c.out, l.mid...)
		c.out = append(c.out, u...)
		c.out = append(c.out, l.post...)
	} else {
		c.out = l.reqHead
	}
	c.sent = now()
	if sched == 0 {
		c.sched = c.sent
	}
	if c.up {
		l.flush(c)
	} else {
		l.interest(c, true)
	}
}

// finish ends a request; why is empty where the response came whole.
func (l *loop) finish(c *conn, why string) {
	wasBusy := c.busy
	c.busy = false
	if wasBusy {
		l.inFly--
	}
	if why != "" {
		l.fault(why, "")
	} else {
		l.status[strconv.Itoa(c.resp.status)]++
		t := now()
		l.lastOK = t
		switch {
		case c.resp.status != 200:
			l.fault("status "+strconv.Itoa(c.resp.status), string(c.body)+string(c.line))
		case c.fail != "":
			l.fault("error event", c.fail)
		default:
			good := true
			if *fVerify && l.chatReq {
				if l.stream {
					good = !c.bad && c.done && c.tokens > 0 && (*fStamp && c.next == *fTokens || !*fStamp && c.off == 13+len(l.suffix))
				} else {
					text, _ := content(c.body, l.scratch)
					good = len(text) == 13+len(l.suffix) && bytes.Equal(text[:13], c.prefix[:]) && bytes.Equal(text[13:], l.suffix)
				}
			}
			if !good {
				l.wrong++
				l.fault("wrong text", fmt.Sprintf("bad=%v done=%v tokens=%d off=%d next=%d want=%s key=%d body=%s", c.bad, c.done, c.tokens, c.off, c.next, c.prefix[:], c.key, c.body))
			} else {
				l.okN++
				l.lat.add(t - c.sched)
				if l.stream && c.firstT > 0 {
					l.ttft.add(c.firstT - c.sched)
				}
				if c.id != "" {
					l.ids[c.id]++
				}
			}
		}
	}
	if why != "" || c.resp.close {
		l.shut(c)
		l.reopen++
	}
	l.onDone(c)
}
