// Package run drives a peer: it reads the task, keeps so many requests in flight, and says what they cost.
package run

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Task is what benchmarks/bench hands over on standard input.
type Task struct {
	URL           string `json:"url"`
	CA            string `json:"ca"`
	KeyFile       string `json:"key_file"`
	KeyID         string `json:"key_id"`
	TeamID        string `json:"team_id"`
	Topic         string `json:"topic"`
	Account       string `json:"account"`
	Project       string `json:"project"`
	Subscriptions string `json:"subscriptions"`
	VapidPrivate  string `json:"vapid_private"`
	VapidPublic   string `json:"vapid_public"`
	Subject       string `json:"subject"`
	Title         string `json:"title"`
	Body          string `json:"body"`
	Warm          int    `json:"warm"`
	Requests      int    `json:"requests"`
	AtOnce        int    `json:"at_once"`
}

// Read reads the task and makes its authority one that Go trusts.
func Read() Task {
	var task Task
	Must(json.NewDecoder(os.Stdin).Decode(&task))
	Must(os.Setenv("SSL_CERT_FILE", task.CA))
	return task
}

// Must ends the program on an error.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func cpu() time.Duration {
	var used syscall.Rusage
	Must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// all calls send for each number below count, with so many goroutines; how many failed.
func all(count, atOnce int, send func(n int) bool) int64 {
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range atOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := next.Add(1) - 1; n < int64(count); n = next.Add(1) - 1 {
				if !send(int(n)) {
					failures.Add(1)
				}
			}
		}()
	}
	workers.Wait()
	return failures.Load()
}

// Measure warms up, sends, and prints CPU microseconds a request, the rate and the failures.
func Measure(task Task, send func(n int) bool) {
	all(task.Warm, task.AtOnce, send)
	began, used := time.Now(), cpu()
	failures := all(task.Requests, task.AtOnce, send)
	used = cpu() - used
	Must(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"cpu_us":   float64(used.Nanoseconds()) / 1e3 / float64(task.Requests),
		"rate":     float64(task.Requests) / time.Since(began).Seconds(),
		"failures": float64(failures),
	}))
}
