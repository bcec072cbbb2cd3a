package console

import (
	"context"
	"fmt"
	"time"

	"bulkhead/netcfg/api"
)

// task is an order that a person may give. It takes a word typed in full.
type task struct {
	title   string
	daemon  string // that does it
	working string
	limit   time.Duration // how long it may take
	// explain says what the task will do, and the word that it takes.
	explain func(*world) (paragraphs []string, word string)
	asking  string // said below what the task before it reports
	leave   string // said to who turns away without giving the word
	// do carries it out.
	do func(ctx context.Context, d daemons, author string) (report, error)
}

// report is what came of a task.
type report struct {
	words []string
	next  *task // what to decide now; nil: nothing
}

// says is the report of a task that leaves nothing to decide.
func says(words string, err error) (report, error) { return report{words: []string{words}}, err }

// choices are the keys of the menu: the state of the box, and the tasks.
const choices = "123456"

var tasks = [...]task{
	undoTask,
	{
		title: "Boot the other root", daemon: "updated", working: "Asking updated to boot the other root.",
		limit:   time.Minute,
		explain: explainBoot,
		do: func(ctx context.Context, d daemons, _ string) (report, error) {
			return says("The box restarts with its other root.", d.updates.BootOther(ctx))
		},
	},
	{
		title: "Set a new claim code", daemon: "webuid", working: "Asking webuid for a new code.",
		limit:   30 * time.Second,
		explain: explainCode,
		do: func(ctx context.Context, d daemons, _ string) (report, error) {
			return says("There is a new claim code. The first screen shows it.", d.web.NewCode(ctx))
		},
	},
	{
		title: "Factory reset", daemon: "updated", working: "Erasing what the box keeps.",
		limit:   2 * time.Minute,
		explain: explainReset,
		do: func(ctx context.Context, d daemons, _ string) (report, error) {
			return says("Everything is erased. The box restarts as it was delivered.", d.updates.Reset(ctx))
		},
	},
	{
		title: "Restart", daemon: "gokrazy", working: "Stopping the services. This takes up to a minute.",
		limit:   2 * time.Minute,
		explain: explainRestart,
		do: func(ctx context.Context, d daemons, _ string) (report, error) {
			return says("The box restarts.", d.supervisor.Restart(ctx))
		},
	},
}

func explainUndo(w *world) ([]string, string) {
	words := []string{"This puts the configuration before the last change into force again. " +
		"Connections that it does not allow are ended. You see what came of it before you keep it. Undoing once more takes this back."}
	switch {
	case !w.status.ok():
	case w.status.value.Confirmed == nil:
		words = append(words, "But no change was made yet: there is nothing to undo.")
	default:
		words = append(words, "In force now: "+change(w.status.value)+".")
	}
	return words, "undo"
}

func explainBoot(w *world) ([]string, string) {
	words := []string{"This restarts the box with the system in its other root, most likely the one before the last update. " +
		"It stays if the box proves healthy with it; otherwise the box returns to the system that runs now. " +
		"The network is down meanwhile. Configuration and leases stay."}
	if w.systems.ok() {
		words = append(words, "Running: "+this(w.systems.value)+".", "The other: "+other(w.systems.value)+".")
	}
	return words, "boot"
}

func explainCode(w *world) ([]string, string) {
	return []string{"This makes a new one-time code and shows it here. Who types it on a workstation in a management zone " +
		"gets full rights over the box. Rights given before stay as they are; a code shown before is void."}, "code"
}

func explainReset(w *world) ([]string, string) {
	words := []string{"This erases everything that the box keeps: configuration and history, leases, records, keys, tokens and its certificate. " +
		"Then it restarts as it was delivered, and waits to be claimed. The system itself stays at the version it has. " +
		"There is no way back."}
	if w.status.ok() && w.status.value.Name != "" {
		return append(words, "To go on, type the name of the box."), w.status.value.Name
	}
	return append(words, "The box has no name, or netcfgd does not tell it. To go on, type three words instead."), "erase this box"
}

func explainRestart(w *world) ([]string, string) {
	words := []string{"This restarts the box. The network is down for as long as that takes."}
	if w.systems.ok() && w.systems.value.Trial {
		words = append(words, "An update is on trial: a restart now gives it up, and the version before comes back.")
	}
	return words, "restart"
}

// undone says what an undo changed.
func undone(plan *api.Plan) []string {
	words := []string{"The configuration before the last change is in force, on trial."}
	if plan == nil {
		return words
	}
	const most = 8
	for i, r := range plan.Reach {
		if i == most {
			return append(words, fmt.Sprintf("... and %d more.", len(plan.Reach)-most))
		}
		words = append(words, r.String())
	}
	return words
}
