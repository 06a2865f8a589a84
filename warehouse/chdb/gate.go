package chdb

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// holdPath is where the parent has statements from outside wait, for as long as it
	// leaves the request open, and maxHold at most.
	holdPath = "/hold"
	maxHold  = 10 * time.Second
	// readsWithin is how long a statement takes at most to find out which tables it
	// reads; what it then reads of them stays the same to its end.
	readsWithin = time.Second
)

// gate has statements from outside wait while the public views are switched to other
// tables, so that none of them sees some of both.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // closed when the gate opens; nil while it is open
	inside map[*visit]struct{}
}

// visit is a statement that may be finding out which tables it reads.
type visit struct {
	until time.Time
	over  chan struct{}
}

// enter waits until the gate is open. leave is to be called when the statement has
// found its tables, or has ended; a second call does nothing.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	for {
		g.mu.Lock()
		closed := g.closed
		if closed == nil {
			v := &visit{time.Now().Add(readsWithin), make(chan struct{})}
			if g.inside == nil {
				g.inside = map[*visit]struct{}{}
			}
			g.inside[v] = struct{}{}
			g.mu.Unlock()
			return sync.OnceFunc(func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				delete(g.inside, v)
				close(v.over)
			}), nil
		}
		g.mu.Unlock()
		select {
		case <-closed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close lets nobody in any more, and returns when all who are inside have found their
// tables. One closes it at a time.
func (g *gate) close(ctx context.Context) (open func(), err error) {
	for {
		g.mu.Lock()
		closed := g.closed
		if closed == nil {
			break
		}
		g.mu.Unlock()
		select {
		case <-closed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.closed = make(chan struct{})
	inside := make([]*visit, 0, len(g.inside))
	for v := range g.inside {
		inside = append(inside, v)
	}
	g.mu.Unlock()
	open = sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(g.closed)
		g.closed = nil
	})
	for _, v := range inside {
		select {
		case <-v.over:
		case <-time.After(time.Until(v.until)):
		case <-ctx.Done():
			open()
			return nil, ctx.Err()
		}
	}
	return open, nil
}

// hold keeps the gate closed until the client goes.
func (g *gate) hold(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), maxHold)
	defer cancel()
	open, err := g.close(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer open()
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err == nil {
		<-ctx.Done()
	}
}

// Hold has statements from outside wait until release is called, for 10 s at most.
// Those under way go on: when Hold returns, each reads the tables that it found before.
func (e *Engine) Hold(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	held, gone := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(gone)
		res, err := post(ctx, e.socket, holdPath)
		if err != nil {
			held <- err
			return
		}
		defer func() { _ = res.Body.Close() }() // it is cut off
		if res.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(res.Body) // says why, if it can be read
			held <- fmt.Errorf("answered %s: %s", res.Status, text)
			return
		}
		held <- nil
		<-ctx.Done()
	}()
	release = func() {
		cancel()
		<-gone
	}
	if err := <-held; err != nil {
		release()
		return nil, fmt.Errorf("hold statements from outside: %w", err)
	}
	return release, nil
}
