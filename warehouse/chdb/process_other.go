//go:build !linux

package chdb

import "syscall"

// childAttributes keep the child out of the parent's process group. Where there
// is no death signal the child ends when its standard input does.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func machineMemory() uint64 { return 4 << 30 }

func residentMemory() uint64 { return 0 }
