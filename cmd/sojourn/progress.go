package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a long piece of work is: a bar on a terminal, a line
// now and then elsewhere.
type progress struct {
	out   io.Writer
	what  string
	bytes bool
	bar   *progressbar.ProgressBar // nil for lines

	mu          sync.Mutex
	total, done int64
	started     time.Time
	lastLine    time.Time
}

// lineEvery is the time between two lines.
const lineEvery = 5 * time.Second

// newProgress begins to show. total 0 or less means that it is not known.
func newProgress(out io.Writer, what string, total int64, bytes bool) *progress {
	p := &progress{out: out, what: what, total: total, bytes: bytes, started: time.Now(), lastLine: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if total <= 0 {
			total = -1
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(bytes), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("msg"), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

// set says how much is done. It may be called by several goroutines.
func (p *progress) set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done < p.done {
		return
	}
	p.done = done
	if p.bar != nil {
		// A bar that cannot be drawn holds nothing up.
		_ = p.bar.Set64(done)
		return
	}
	if time.Since(p.lastLine) >= lineEvery {
		p.lastLine = time.Now()
		_, _ = fmt.Fprintln(p.out, p.line())
	}
}

// setTotal corrects the total.
func (p *progress) setTotal(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if total == p.total {
		return
	}
	p.total = total
	if p.bar != nil {
		p.bar.ChangeMax64(total)
	}
}

func (p *progress) line() string {
	unit := func(n int64) string { return fmt.Sprint(n) }
	if p.bytes {
		unit = func(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
	}
	if p.total <= 0 {
		return fmt.Sprintf("%s: %s", p.what, unit(p.done))
	}
	return fmt.Sprintf("%s: %s of %s (%d %%)", p.what, unit(p.done), unit(p.total), p.done*100/p.total)
}

// clear takes the bar away, so that a line can be printed.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// finish ends the showing.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
