package store

import (
	"database/sql"
	"errors"
	"fmt"
)

// waitBehind says in a new deployment's history what it waits for. A push of an app with on_push "cancel" also asks that
// one to stop, as long as it builds. It gives the deployment at work, or 0.
func waitBehind(tx txContext, app, id int64, trigger Trigger) (active int64, err error) {
	var step Step
	var source Source
	var config string
	err = tx.row(`SELECT d.id, d.step, a.source, a.config FROM deployments d JOIN apps a ON a.id = d.app
		WHERE d.app = ? AND d.started_at IS NOT NULL AND d.step NOT IN ('done', 'undone')`, app).Scan(&active, &step, &source, &config)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find deployment at work: %w", err)
	}
	if err := writeEvents(tx, id, []Event{{Kind: "wait", Text: "behind deployment " + itoa(active)}}); err != nil {
		return 0, err
	}
	decoded, err := DecodeConfig(source, []byte(config))
	pushed := trigger == TriggerPush || trigger == TriggerWebhook || trigger == TriggerCaughtUp
	if err != nil || decoded.Shared().OnPush != "cancel" || !pushed || step != StepQueued {
		return active, err
	}
	if _, err := tx.exec(`UPDATE deployments SET cancel_asked = 1 WHERE id = ?`, active); err != nil {
		return 0, fmt.Errorf("cancel deployment at work: %w", err)
	}
	return active, writeEvents(tx, active, []Event{{Kind: "note", Text: fmt.Sprintf("deployment %d takes its place (on_push: cancel)", id)}})
}
