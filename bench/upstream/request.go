package main

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
)

type request struct {
	method, path, query string
	body                []byte
	close               bool
}

func readRequest(br *bufio.Reader, buf []byte) (request, []byte, error) {
	var r request
	line, err := br.ReadSlice('\n')
	if err != nil {
		return r, buf, err
	}
	f := bytes.Fields(line)
	if len(f) < 3 {
		return r, buf, errBad
	}
	r.method = string(f[0])
	r.path = string(f[1])
	r.close = bytes.Equal(f[2], []byte("HTTP/1.0"))
	if i := bytes.IndexByte(f[1], '?'); i >= 0 {
		r.path, r.query = string(f[1][:i]), string(f[1][i+1:])
	}
	length, chunked, expect := 0, false, false
	for {
		line, err = br.ReadSlice('\n')
		if err != nil {
			return r, buf, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		i := bytes.IndexByte(line, ':')
		if i < 0 {
			return r, buf, errBad
		}
		val := bytes.TrimSpace(line[i+1:])
		switch i {
		case 14:
			if bytes.EqualFold(line[:i], []byte("content-length")) {
				if length, err = strconv.Atoi(string(val)); err != nil || length < 0 || length > 64<<20 {
					return r, buf, errBad
				}
			}
		case 17:
			if bytes.EqualFold(line[:i], []byte("transfer-encoding")) {
				chunked = true
			}
		case 10:
			if bytes.EqualFold(line[:i], []byte("connection")) {
				if bytes.EqualFold(val, []byte("close")) {
					r.close = true
				} else if bytes.EqualFold(val, []byte("keep-alive")) {
					r.close = false
				}
			}
		case 6:
			if bytes.EqualFold(line[:i], []byte("expect")) {
				expect = true
			}
		}
	}
	_ = expect
	if chunked {
		buf = buf[:0]
		for {
			line, err = br.ReadSlice('\n')
			if err != nil {
				return r, buf, err
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
			if err != nil || n < 0 {
				return r, buf, errBad
			}
			at := len(buf)
			buf = append(buf, make([]byte, n+2)...)
			if _, err = io.ReadFull(br, buf[at:]); err != nil {
				return r, buf, err
			}
			buf = buf[:at+int(n)]
			if n == 0 {
				break
			}
		}
	} else {
		if cap(buf) < length {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if _, err = io.ReadFull(br, buf); err != nil {
			return r, buf, err
		}
	}
	r.body = buf
	return r, buf, nil
}
