package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

type chatBody struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Stream        bool `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

func digest(b *chatBody) string {
	h := sha256.New()
	for _, m := range b.Messages {
		io.WriteString(h, m.Role)
		h.Write([]byte{0})
		var s string
		if json.Unmarshal(m.Content, &s) == nil {
			io.WriteString(h, s)
		} else {
			var parts []struct {
				Text string `json:"text"`
			}
			if json.Unmarshal(m.Content, &parts) == nil {
				for _, p := range parts {
					io.WriteString(h, p.Text)
				}
			}
		}
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

func appendToken(b []byte, hash string, i int, stamp bool) []byte {
	if i == 0 {
		b = append(b, 'h')
		b = append(b, hash...)
	} else {
		b = append(b, " w"...)
		b = strconv.AppendInt(b, int64(i-1), 10)
	}
	if stamp {
		b = append(b, '~')
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, '~')
		b = strconv.AppendInt(b, time.Now().UnixNano(), 10)
		b = append(b, '~')
	}
	return b
}

func reply(c net.Conn, status, extra string, body []byte) error {
	out := make([]byte, 0, 160+len(extra)+len(body))
	out = append(out, "HTTP/1.1 "...)
	out = append(out, status...)
	out = append(out, "\r\nContent-Type: application/json\r\n"...)
	out = append(out, extra...)
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = append(out, "\r\n\r\n"...)
	out = append(out, body...)
	_, err := c.Write(out)
	return err
}

func enter() bool {
	k := cfg.Load()
	n := nActive.Add(1)
	if k.MaxStreams > 0 && n > k.MaxStreams {
		nActive.Add(-1)
		return false
	}
	for {
		m := maxActive.Load()
		if n <= m || maxActive.CompareAndSwap(m, n) {
			return true
		}
	}
}

// appendChunk frames one SSE event as one HTTP chunk.
func appendChunk(b []byte, ev []byte) []byte {
	b = strconv.AppendInt(b, int64(len(ev)), 16)
	b = append(b, "\r\n"...)
	b = append(b, ev...)
	return append(b, "\r\n"...)
}

func chat(c net.Conn, br *bufio.Reader, r *request) error {
	nReq.Add(1)
	k := cfg.Load()
	var b chatBody
	if err := json.Unmarshal(r.body, &b); err != nil || len(b.Messages) == 0 {
		return reply(c, "400 Bad Request", "", []byte(`{"error":{"message":"bad body","type":"invalid_request_error","code":null}}`))
	}
	hash := digest(&b)
	promptsMu.Lock()
	if len(prompts) < maxPrompts {
		prompts[hash]++
	}
	promptsMu.Unlock()
	if roll(k.Err500) {
		n500.Add(1)
		return reply(c, "500 Internal Server Error", "", []byte(`{"error":{"message":"injected","type":"server_error","code":null}}`))
	}
	if roll(k.Err429) || !enter() {
		n429.Add(1)
		return reply(c, "429 Too Many Requests", "Retry-After: "+strconv.Itoa(k.RetryAfter)+"\r\n",
			[]byte(`{"error":{"message":"Rate limit reached","type":"rate_limit_error","code":"rate_limit_exceeded"}}`))
	}
	var once sync.Once
	leave := func() { once.Do(func() { nActive.Add(-1) }) }
	defer leave()
	id := "chatcmpl-" + hash + "-" + strconv.FormatInt(callNo.Add(1), 10)
	modelJSON, _ := json.Marshal(b.Model)
	if !b.Stream {
		nUnary.Add(1)
		d := k.TTFT
		if k.TPS > 0 {
			d += time.Duration(float64(k.Tokens) / k.TPS * float64(time.Second))
		}
		if d > 0 {
			time.Sleep(d)
		}
		out := make([]byte, 0, 512+8*k.Tokens)
		out = append(out, `{"id":"`...)
		out = append(out, id...)
		out = append(out, `","object":"chat.completion","created":1700000000,"model":`...)
		out = append(out, modelJSON...)
		out = append(out, `,"system_fingerprint":"fp_sim","choices":[{"index":0,"message":{"role":"assistant","content":"`...)
		for i := 0; i < k.Tokens; i++ {
			out = appendToken(out, hash, i, k.Stamp)
		}
		out = append(out, `"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":`...)
		out = strconv.AppendInt(out, int64(k.Tokens), 10)
		out = append(out, `,"total_tokens":`...)
		out = strconv.AppendInt(out, int64(k.Tokens+20), 10)
		out = append(out, `}}`...)
		err := reply(c, "200 OK", "", out)
		nTokens.Add(int64(k.Tokens))
		if err == nil {
			nDone.Add(1)
		}
		return err
	}

	nStream.Add(1)
	// The watcher notices a client that goes away even while no token is due.
	gone := make(chan struct{})
	watch := make(chan error, 1)
	go func() {
		_, err := br.Peek(1)
		if err != nil {
			close(gone)
		}
		watch <- err
	}()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	wait := func(until time.Time) bool {
		d := time.Until(until)
		if d <= 0 {
			select {
			case <-gone:
				return false
			default:
				return true
			}
		}
		timer.Reset(d)
		select {
		case <-timer.C:
			return true
		case <-gone:
			timer.Stop()
			return false
		}
	}
	cancelled := func() error {
		nCancel.Add(1)
		return errors.New("client went away")
	}
	start := time.Now()
	first := start.Add(k.TTFT)
	if !wait(first) {
		return cancelled()
	}
	reset, stall := roll(k.ErrReset), roll(k.ErrStall)
	head := append([]byte(`data: {"id":"`+id+`","object":"chat.completion.chunk","created":1700000000,"model":`), modelJSON...)
	head = append(head, `,"system_fingerprint":"fp_sim","choices":[{"index":0,"delta":`...)
	const tail = `,"logprobs":null,"finish_reason":null}]}` + "\n\n"
	ev := make([]byte, 0, 512)
	out := make([]byte, 0, 5120)
	out = append(out, headStream...)
	ev = append(append(append(ev, head...), `{"role":"assistant","content":""}`...), tail...)
	out = appendChunk(out, ev)
	step := time.Duration(0)
	if k.TPS > 0 {
		step = time.Duration(float64(time.Second) / k.TPS)
	}
	for i := 0; i < k.Tokens; i++ {
		if step > 0 || len(out) > 4096 {
			if i > 0 && len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return cancelled()
				}
				out = out[:0]
			}
			if step > 0 && !wait(first.Add(time.Duration(i)*step)) {
				return cancelled()
			}
		}
		if i == k.Tokens/2 {
			if reset {
				nReset.Add(1)
				return errors.New("injected reset")
			}
			if stall {
				nStall.Add(1)
				if len(out) > 0 {
					c.Write(out)
					out = out[:0]
				}
				if !wait(time.Now().Add(k.StallFor)) {
					return cancelled()
				}
			}
		}
		ev = append(append(ev[:0], head...), `{"content":"`...)
		ev = append(append(appendToken(ev, hash, i, k.Stamp), `"}`...), tail...)
		out = appendChunk(out, ev)
	}
	ev = append(append(ev[:0], head...), `{},"logprobs":null,"finish_reason":"stop"}]}`+"\n\n"...)
	out = appendChunk(out, ev)
	if b.StreamOptions != nil && b.StreamOptions.IncludeUsage {
		u := fmt.Sprintf(`data: {"id":"%s","object":"chat.completion.chunk","created":1700000000,"model":%s,"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}}`+"\n\n", id, modelJSON, k.Tokens, k.Tokens+20)
		out = appendChunk(out, []byte(u))
	}
	out = appendChunk(out, []byte("data: [DONE]\n\n"))
	out = append(out, "0\r\n\r\n"...)
	if _, err := c.Write(out); err != nil {
		return cancelled()
	}
	nTokens.Add(int64(k.Tokens))
	nDone.Add(1)
	leave() // not only when the connection brings its next request, which the watcher waits for
	if r.close {
		return io.EOF
	}
	return <-watch
}
