package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// previewExecutable is this very program, also where its file was replaced since it
// was started.
func previewExecutable() (string, error) { return "/proc/self/exe", nil }

// previewAttributes make the process die with its parent, and put it into a session of
// its own: a terminal sends its Ctrl-C to the parent's, and where Linux shares out the
// processors by session, what the process uses is not taken from the parent's share.
func previewAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// lowestPriority gives this process and its session the processors that nobody else
// wants, and makes it the first to go where memory is short.
func lowestPriority() error {
	known := map[string]bool{}
	for grown := true; grown; {
		// Priorities are of threads, and a new one has that of the thread that made it.
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		grown = false
		for _, t := range threads {
			if known[t.Name()] {
				continue
			}
			known[t.Name()], grown = true, true
			id, err := strconv.Atoi(t.Name())
			if err == nil {
				err = unix.Setpriority(unix.PRIO_PROCESS, id, 19)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			// Where the system does not let us, nice is all there is.
			_ = unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_IDLE, Nice: 19}, 0)
		}
	}
	_ = os.WriteFile("/proc/self/autogroup", []byte("19"), 0) // the weight of the session
	return os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
}
