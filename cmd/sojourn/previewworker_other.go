//go:build !linux

package main

import (
	"os"
	"syscall"
)

func previewExecutable() (string, error) { return os.Executable() }

// previewAttributes keep the process out of the parent's process group. Where there is
// no death signal it ends when its standard input does.
func previewAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// lowestPriority gives this process what the others leave of the processors.
func lowestPriority() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) }
