// webpush-go with one HTTP client, so that it keeps its connections.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"

	"clarion.example/peers/run"
	webpush "github.com/SherClockHolmes/webpush-go"
)

func main() {
	task := run.Read()
	text, err := os.ReadFile(task.Subscriptions)
	run.Must(err)
	var browsers []*webpush.Subscription
	run.Must(json.Unmarshal(text, &browsers))
	body, err := json.Marshal(map[string]string{"title": task.Title, "body": task.Body})
	run.Must(err)
	options := webpush.Options{
		HTTPClient:      &http.Client{},
		Subscriber:      task.Subject,
		VAPIDPublicKey:  task.VapidPublic,
		VAPIDPrivateKey: task.VapidPrivate,
		TTL:             60,
	}
	run.Measure(task, func(n int) bool {
		answer, err := webpush.SendNotification(body, browsers[n%len(browsers)], &options)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.Body.Close() == nil && answer.StatusCode == http.StatusCreated
	})
}
