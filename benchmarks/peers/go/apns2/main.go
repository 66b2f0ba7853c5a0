// apns2 (Go) as its README shows it: one client with token authentication, goroutines that push.
package main

import (
	"fmt"

	"clarion.example/peers/run"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/payload"
	"github.com/sideshow/apns2/token"
)

func main() {
	task := run.Read()
	key, err := token.AuthKeyFromFile(task.KeyFile)
	run.Must(err)
	client := apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: task.KeyID, TeamID: task.TeamID})
	client.Host = task.URL
	run.Measure(task, func(n int) bool {
		answer, err := client.Push(&apns2.Notification{
			DeviceToken: fmt.Sprintf("%064x", n),
			Topic:       task.Topic,
			CollapseID:  "0123456789abcdef",
			Payload:     payload.NewPayload().AlertTitle(task.Title).AlertBody(task.Body),
		})
		return err == nil && answer.Sent()
	})
}
