package main

import (
	"math/rand"
	"syscall"
	"time"
	"unsafe"
)

type conn struct {
	fd      int
	up      bool // connected
	busy    bool
	out     []byte
	wantOut bool
	resp    response
	line    []byte
	body    []byte
	sched   int64
	sent    int64
	firstB  int64
	firstT  int64
	last    int64
	tokens  int
	evs     int
	off     int
	prefix  [13]byte
	bad     bool
	done    bool
	fail    string
	next    int // stamped streams: next sequence number
	id      string
	key     int64
}

type loop struct {
	ep      int
	byFd    []*conn
	addr    syscall.SockaddrInet4
	host    string
	path    string
	rbuf    []byte
	scratch []byte
	start   int64
	lat     hist
	ttft    hist
	gap     hist
	lag     hist
	late    hist
	issued  int64
	okN     int64
	inFly   int64
	tokN    int64
	evN     int64
	bytesN  int64
	errs    map[string]int64
	status  map[string]int64
	wrong   int64
	samples []string
	zipf    *rand.Zipf
	rnd     *rand.Rand
	suffix  []byte
	mid     []byte
	post    []byte
	reqHead []byte
	ids     map[string]int64
	chatReq bool
	stream  bool
	pending []int64
	pendAt  int
	idle    []*conn
	onDone  func(*conn)
	onData  func(*conn, []byte, int64)
	events  [1024]syscall.EpollEvent
	proc    tree
	lastRSS int64
	endAt   int64
	lastOK  int64
	reopen  int64
}

func (l *loop) open(a *syscall.SockaddrInet4) (*conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	err = syscall.Connect(fd, a)
	c := &conn{fd: fd}
	if err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return nil, err
	}
	for len(l.byFd) <= fd {
		l.byFd = append(l.byFd, nil)
	}
	l.byFd[fd] = c
	c.wantOut = true
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT, Fd: int32(fd)}
	return c, syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func (l *loop) shut(c *conn) {
	if c.fd >= 0 {
		syscall.Close(c.fd)
		l.byFd[c.fd] = nil
		c.fd = -1
		c.up = false
	}
}

func (l *loop) interest(c *conn, out bool) {
	if c.wantOut == out {
		return
	}
	c.wantOut = out
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.fd)}
	if out {
		ev.Events |= syscall.EPOLLOUT
	}
	syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_MOD, c.fd, &ev)
}

func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}

func rawRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), e
}

func (l *loop) flush(c *conn) {
	for len(c.out) > 0 {
		n, e := rawWrite(c.fd, c.out)
		if e == syscall.EAGAIN {
			l.interest(c, true)
			return
		}
		if e != 0 {
			l.finish(c, "write: "+e.Error())
			return
		}
		c.out = c.out[n:]
	}
	l.interest(c, false)
}

// wait runs the loop once, for at most d.
func (l *loop) wait(d time.Duration) {
	if d < 0 {
		d = 0
	}
	ts := syscall.NsecToTimespec(int64(d))
	n, _, e := syscall.Syscall6(441, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), uintptr(unsafe.Pointer(&ts)), 0, 8) // epoll_pwait2
	if e == syscall.EINTR {
		return
	}
	if e != 0 {
		die(e)
	}
	for i := 0; i < int(n); i++ {
		ev := &l.events[i]
		c := l.byFd[ev.Fd]
		if c == nil {
			continue
		}
		if !c.up {
			if ev.Events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
				v, _ := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
				l.finish(c, "connect: "+syscall.Errno(v).Error())
				continue
			}
			if ev.Events&syscall.EPOLLOUT != 0 {
				c.up = true
				if len(c.out) == 0 {
					l.interest(c, false)
				}
			}
		}
		if ev.Events&syscall.EPOLLOUT != 0 && len(c.out) > 0 {
			l.flush(c)
			if c.fd < 0 {
				continue
			}
		}
		if ev.Events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			l.read(c)
		}
	}
	if t := now(); len(l.proc.roots) > 0 && t-l.lastRSS > int64(400*time.Millisecond) {
		l.lastRSS = t
		l.proc.rss()
	}
}

func (l *loop) read(c *conn) {
	n, e := rawRead(c.fd, l.rbuf)
	if e == syscall.EAGAIN {
		return
	}
	t := now()
	if e != 0 || n == 0 {
		why := "closed early"
		if e != 0 {
			why = "read: " + e.Error()
		}
		if !c.busy {
			l.shut(c)
			return
		}
		if c.resp.state == stEOF && e == 0 {
			c.resp.state = stDone
			c.resp.close = true
			l.finish(c, "")
			return
		}
		l.finish(c, why)
		return
	}
	l.bytesN += int64(n)
	p := l.rbuf[:n]
	if !c.busy {
		l.fault("bytes without a request", "")
		l.shut(c)
		return
	}
	if c.firstB == 0 {
		c.firstB = t
	}
	used, err := c.resp.feed(p, func(b []byte) { l.onData(c, b, t) })
	if err != nil {
		l.finish(c, err.Error())
		return
	}
	if c.resp.state == stDone {
		if used < n {
			l.finish(c, "bytes after the response")
			return
		}
		l.finish(c, "")
	}
}
