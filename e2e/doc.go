// Package e2e holds the tests that start the real binary and speak to it as its
// users do: with SDKs and database clients that others wrote, with curl's means,
// and with signals.
package e2e
