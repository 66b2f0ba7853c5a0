// Start a Clarion campaign with Temporal's own SDK, follow it, and steer it.
//
// Nothing of Clarion is imported: a workflow type, a task queue, an id and one JSON object are the whole
// contract (docs/schema).
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
)

const usage = `usage:
  clarion-go start ID SPEC.json    start the campaign of that id; again with the same spec: the same campaign
  clarion-go watch ID              print its progress until it is closed
  clarion-go pause ID [REASON]     start nothing more until resume
  clarion-go resume ID             go on exactly where it stood`

// memoKey is where a start leaves the digest of its input, so that a repeated one is recognised.
const memoKey = "input_sha256"

// Progress is what the example prints of docs/schema/CampaignProgress.json and PushProgress.json.
type Progress struct {
	Status string `json:"status"`
	Stages []struct {
		PushID string `json:"push_id"`
		Phase  string `json:"phase"`
		Hold   string `json:"hold"`
	} `json:"stages"`
}

// PushProgress counts what became of one push, lane by lane.
type PushProgress struct {
	Phase    string `json:"phase"`
	Hold     string `json:"hold"`
	Audience int    `json:"audience"`
	Lanes    []struct {
		Accepted int `json:"accepted"`
		Rejected int `json:"rejected"`
	} `json:"lanes"`
}

// Answer is docs/schema/CommandAnswer.json.
type Answer struct {
	Version int    `json:"version"`
	Hold    string `json:"hold"`
	Already bool   `json:"already"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clarion-go:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	temporal, err := connect()
	if err != nil {
		return err
	}
	defer temporal.Close()

	id := args[1]
	switch {
	case args[0] == "start" && len(args) == 3:
		return start(ctx, temporal, id, args[2])
	case args[0] == "watch" && len(args) == 2:
		return watch(ctx, temporal, id)
	case args[0] == "pause" && len(args) <= 3:
		reason := ""
		if len(args) == 3 {
			reason = args[2]
		}
		return tell(ctx, temporal, id, "pause", map[string]string{"reason": reason, "by": "go"})
	case args[0] == "resume" && len(args) == 2:
		return tell(ctx, temporal, id, "resume", map[string]string{"by": "go"})
	}
	return errors.New(usage)
}

// connect reads TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_PROFILE, … as every Temporal tool does.
func connect() (client.Client, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, err
	}
	options.Logger = quiet{}
	return client.Dial(options)
}

func start(ctx context.Context, temporal client.Client, id, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !json.Valid(text) {
		return fmt.Errorf("%s is not JSON", file)
	}
	content := fmt.Sprintf("%x", sha256.Sum256(text))
	run, err := temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:        "campaign/" + id,
		TaskQueue: "control",
		// Ten seconds, Temporal's default, would be a killed worker's silence.
		WorkflowTaskTimeout:                      3 * time.Second,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		Memo:                                     map[string]any{memoKey: content},
	}, "CampaignWorkflow", json.RawMessage(text))
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return sameOrRefuse(ctx, temporal, id, content)
	}
	if err != nil {
		return err
	}
	fmt.Printf("started %s (run %s)\n", run.GetID(), run.GetRunID())
	return nil
}

// sameOrRefuse: a start that is repeated, because its answer was lost, finds the campaign that it made. (Once a
// campaign is closed Clarion itself compares, and sends nothing again.)
func sameOrRefuse(ctx context.Context, temporal client.Client, id, content string) error {
	running, err := temporal.DescribeWorkflow(ctx, "campaign/"+id, "")
	if err != nil {
		return err
	}
	var known string
	if payload := running.Memo.GetFields()[memoKey]; payload != nil {
		if err := converter.GetDefaultDataConverter().FromPayload(payload, &known); err != nil {
			return err
		}
	}
	if known != content {
		return fmt.Errorf("campaign/%s is running with other content: choose another id, or cancel it first", id)
	}
	fmt.Printf("campaign/%s is running already\n", id)
	return nil
}

func watch(ctx context.Context, temporal client.Client, id string) error {
	for {
		var progress Progress
		if err := query(ctx, temporal, "campaign/"+id, &progress); err != nil {
			return err
		}
		for _, stage := range progress.Stages {
			if stage.Phase == "to come" {
				continue
			}
			if err := printPush(ctx, temporal, stage.PushID); err != nil {
				return err
			}
		}
		if progress.Status != "pending" && progress.Status != "sending" {
			fmt.Printf("%s: %s\n", id, progress.Status)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func printPush(ctx context.Context, temporal client.Client, id string) error {
	var push PushProgress
	err := query(ctx, temporal, "push/"+id, &push)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) { // just being opened
		return nil
	}
	if err != nil {
		return err
	}
	accepted, rejected := 0, 0
	for _, lane := range push.Lanes {
		accepted, rejected = accepted+lane.Accepted, rejected+lane.Rejected
	}
	fmt.Printf("push %s: %s, hold %s, %d accepted, %d rejected of %d\n",
		id, push.Phase, push.Hold, accepted, rejected, push.Audience)
	return nil
}

func query(ctx context.Context, temporal client.Client, workflowID string, into any) error {
	answer, err := temporal.QueryWorkflow(ctx, workflowID, "", "progress")
	if err != nil {
		return err
	}
	return answer.Get(into)
}

// tell says an operator's word. The command id makes it safe to repeat: the same one acts once.
func tell(ctx context.Context, temporal client.Client, id, word string, input map[string]string) error {
	input["command_id"] = uuid.NewString()
	handle, err := temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID:   "campaign/" + id,
		UpdateName:   word,
		Args:         []any{input},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	var answer Answer
	if err := handle.Get(ctx, &answer); err != nil {
		return err
	}
	fmt.Printf("%s: hold %s (version %d)\n", id, answer.Hold, answer.Version)
	return nil
}

// quiet keeps the SDK's log lines out of what a person reads.
type quiet struct{}

var _ log.Logger = quiet{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
