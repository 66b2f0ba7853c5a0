// Firebase's messaging client for Go, goroutines that send: its SendEach does the same for 500 at a time.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"
)

type task struct {
	URL      string `json:"url"`
	CA       string `json:"ca"`
	Account  string `json:"account"`
	Project  string `json:"project"`
	Title    string `json:"title"`
	Body     string `json:"body"`
	Warm     int    `json:"warm"`
	Requests int    `json:"requests"`
	AtOnce   int    `json:"at_once"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func cpu() time.Duration {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// here sends what is meant for Google to the local server; everything else is the client's own.
type here struct{ host string }

func (h here) RoundTrip(request *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(request.URL.Host, "127.") && request.URL.Host != h.host {
		request = request.Clone(request.Context())
		request.URL.Host, request.Host = h.host, h.host
	}
	return http.DefaultTransport.RoundTrip(request)
}

func all(client *messaging.Client, given task, count int) int64 {
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range given.AtOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := next.Add(1) - 1; n < int64(count); n = next.Add(1) - 1 {
				_, err := client.Send(context.Background(), &messaging.Message{
					Token:        fmt.Sprintf("%022d:APA91b%s", n, strings.Repeat("x", 123)),
					Notification: &messaging.Notification{Title: given.Title, Body: given.Body},
				})
				if err != nil {
					failures.Add(1)
				}
			}
		}()
	}
	workers.Wait()
	return failures.Load()
}

func main() {
	var given task
	must(json.NewDecoder(os.Stdin).Decode(&given))
	must(os.Setenv("SSL_CERT_FILE", given.CA))
	background := context.Background()
	app, err := firebase.NewApp(background, &firebase.Config{ProjectID: given.Project},
		option.WithCredentialsFile(given.Account), option.WithEndpoint(given.URL+"/v1"))
	must(err)
	client, err := app.Messaging(background)
	must(err)
	all(client, given, given.Warm)
	began, used := time.Now(), cpu()
	failures := all(client, given, given.Requests)
	used = cpu() - used
	must(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"cpu_us":   float64(used.Nanoseconds()) / 1e3 / float64(given.Requests),
		"rate":     float64(given.Requests) / time.Since(began).Seconds(),
		"failures": float64(failures),
	}))
}
