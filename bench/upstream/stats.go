package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func stats() []byte {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	promptsMu.Lock()
	var top int64
	for _, n := range prompts {
		if n > top {
			top = n
		}
	}
	uniq := len(prompts)
	promptsMu.Unlock()
	b, _ := json.Marshal(map[string]any{
		"requests": nReq.Load(), "unary": nUnary.Load(), "streams": nStream.Load(), "completed": nDone.Load(),
		"cancelled": nCancel.Load(), "active": nActive.Load(), "max_concurrent": maxActive.Load(),
		"rejected_429": n429.Load(), "injected_500": n500.Load(), "injected_reset": nReset.Load(),
		"injected_stall": nStall.Load(), "tokens": nTokens.Load(), "unique_prompts": uniq,
		"max_calls_per_prompt": top, "connections": nConns.Load(),
		"cpu_s": float64(ru.Utime.Sec+ru.Stime.Sec) + float64(ru.Utime.Usec+ru.Stime.Usec)/1e6,
	})
	return b
}

func reset() {
	for _, v := range []*atomic.Int64{&nReq, &nUnary, &nStream, &nDone, &nCancel, &n429, &n500, &nReset, &nStall, &nTokens, &nConns} {
		v.Store(0)
	}
	maxActive.Store(nActive.Load())
	promptsMu.Lock()
	prompts = map[string]int64{}
	promptsMu.Unlock()
}

func reconfigure(query string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	k := *cfg.Load()
	for name, vs := range q {
		v := vs[0]
		var err error
		switch name {
		case "ttft":
			k.TTFT, err = time.ParseDuration(v)
		case "tps":
			k.TPS, err = strconv.ParseFloat(v, 64)
		case "tokens":
			k.Tokens, err = strconv.Atoi(v)
		case "max-streams":
			k.MaxStreams, err = strconv.ParseInt(v, 10, 64)
		case "retry-after":
			k.RetryAfter, err = strconv.Atoi(v)
		case "err500":
			k.Err500, err = strconv.ParseFloat(v, 64)
		case "err429":
			k.Err429, err = strconv.ParseFloat(v, 64)
		case "err-reset":
			k.ErrReset, err = strconv.ParseFloat(v, 64)
		case "err-stall":
			k.ErrStall, err = strconv.ParseFloat(v, 64)
		case "stall-for":
			k.StallFor, err = time.ParseDuration(v)
		case "stamp":
			k.Stamp, err = strconv.ParseBool(v)
		default:
			err = errors.New("no such setting")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	cfg.Store(&k)
	return nil
}
