package main

import (
	"bytes"
)

func (c *conn) lines(b []byte, each func([]byte)) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.line = append(c.line, b...)
			return
		}
		ln := b[:i]
		if len(c.line) > 0 {
			c.line = append(c.line, ln...)
			ln = c.line
		}
		if n := len(ln); n > 0 && ln[n-1] == '\r' {
			ln = ln[:n-1]
		}
		if len(ln) > 0 {
			each(ln)
		}
		c.line = c.line[:0]
		b = b[i+1:]
	}
}

// marker reads ~seq~nanoseconds~ and returns what follows it.
func marker(b []byte) (seq int, ts int64, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '~')
	if i < 0 {
		return
	}
	b = b[i+1:]
	j := bytes.IndexByte(b, '~')
	if j < 0 {
		return
	}
	for _, d := range b[:j] {
		if d < '0' || d > '9' {
			return
		}
		seq = seq*10 + int(d-'0')
	}
	b = b[j+1:]
	k := bytes.IndexByte(b, '~')
	if k < 0 {
		return
	}
	for _, d := range b[:k] {
		if d < '0' || d > '9' {
			return
		}
		ts = ts*10 + int64(d-'0')
	}
	return seq, ts, b[k+1:], true
}

func (l *loop) dataUnary(c *conn, b []byte, t int64) {
	if *fVerify || c.resp.status != 200 {
		c.body = append(c.body, b...)
	}
}

func (l *loop) dataStream(c *conn, b []byte, t int64) {
	if c.resp.status != 200 {
		c.body = append(c.body, b...)
		return
	}
	c.lines(b, func(ln []byte) {
		if !bytes.HasPrefix(ln, []byte("data:")) {
			return
		}
		ln = bytes.TrimLeft(ln[5:], " ")
		c.evs++
		l.evN++
		if ln[0] == '[' && bytes.Equal(ln, []byte("[DONE]")) {
			c.done = true
			return
		}
		text, ok := content(ln, l.scratch)
		if !ok || len(text) == 0 {
			if !ok && bytes.Contains(ln, []byte(`"error"`)) && !bytes.Contains(ln, []byte(`"error":null`)) {
				c.fail = string(ln)
			}
			return
		}
		if c.id == "" && *fMode == "dup" {
			if i := bytes.Index(ln, []byte(`"id"`)); i >= 0 {
				r := bytes.TrimLeft(ln[i+4:], ": ")
				if len(r) > 1 && r[0] == '"' {
					if j := bytes.IndexByte(r[1:], '"'); j > 0 {
						c.id = string(r[1 : 1+j])
					}
				}
			}
		}
		l.tokN++
		c.tokens++
		if c.firstT == 0 {
			c.firstT = t
			c.next = 0
		} else {
			l.gap.add(t - c.last)
		}
		c.last = t
		if !*fVerify {
			return
		}
		if *fStamp {
			for len(text) > 0 {
				seq, ts, rest, ok := marker(text)
				if !ok || seq != c.next || (seq == 0 && !bytes.HasPrefix(text, c.prefix[:])) {
					c.bad = true
					return
				}
				c.next++
				l.lag.add(t - ts)
				text = rest
			}
			return
		}
		for len(text) > 0 && !c.bad {
			var want []byte
			if c.off < 13 {
				want = c.prefix[c.off:]
			} else {
				want = l.suffix[c.off-13:]
			}
			n := len(text)
			if n > len(want) {
				n = len(want)
			}
			if n == 0 || !bytes.Equal(text[:n], want[:n]) {
				c.bad = true
				return
			}
			c.off += n
			text = text[n:]
		}
	})
}
