package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// OutboxTopic changes whenever something waits to be told to the forge.
const OutboxTopic = "outbox"

// PostKind is what a Post becomes at the forge.
type PostKind string

// The kinds of posts.
const (
	PostStatus     PostKind = "status"     // a commit status
	PostDeployment PostKind = "deployment" // a GitHub Deployment and its statuses
)

// PostOutcome says how a Post ended.
type PostOutcome string

// The outcomes.
const (
	Posted    PostOutcome = "posted"
	Coalesced PostOutcome = "coalesced" // a later one says it all
	Refused   PostOutcome = "refused"   // the forge does not want it
	Unknown   PostOutcome = "unknown"   // the forge does not have the commit, which never came from there
	Expired   PostOutcome = "expired"   // it could not be delivered for a day
)

// Post is one thing that the forge is to be told: that a deployment is under way, or its verdict.
type Post struct {
	ID          int64
	Lane        string // those of one lane go out in their order
	Kind        PostKind
	App         string
	Deployment  int64
	Trigger     Trigger
	Repository  Repository
	SHA         string
	Environment string
	Verdict     Verdict // empty: pending
	Reason      string
	Host        string // the app's first host; empty when it has none
	PublicLogs  bool
	Took        time.Duration // from the request to the verdict
	CreatedAt   time.Time
	Attempts    int
	EndedAt     time.Time
	Outcome     PostOutcome
	Answer      string // of the last attempt, when it was not good
}

// Context is the name of the commit status.
func (p Post) Context() string { return "shipgate/" + p.App }

// announce puts into the outbox what the forge is to know of a deployment as it is now. It is called in the transaction
// that makes it so. With a verdict, what has not been told yet is not worth telling any more. What was told once is brought
// to its end at the same place, whatever the app says meanwhile.
func announce(tx txContext, id int64) error {
	d, err := readDeployment(tx, id)
	if err != nil {
		return err
	}
	posts, err := announced(tx, id)
	if err != nil {
		return err
	}
	if len(posts) == 0 {
		if posts, err = announcements(tx, d); err != nil {
			return err
		}
	}
	for _, post := range posts {
		post.Verdict, post.Reason = d.Verdict, d.Reason
		if d.Verdict != "" {
			post.Took = d.FinishedAt.Sub(d.CreatedAt)
		}
		known, err := toldAlready(tx, post)
		if err == nil && !known {
			err = insertPost(tx, post)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// toldAlready says whether the forge has heard just this of the deployment, or is about to.
func toldAlready(tx txContext, p Post) (known bool, err error) {
	err = tx.row(`SELECT EXISTS (SELECT 1 FROM outbox o WHERE o.deployment = ? AND o.kind = ? AND o.verdict = ?
		AND (o.ended_at IS NULL OR o.outcome = ?))`, p.Deployment, p.Kind, p.Verdict, Posted).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("find earlier posts: %w", err)
	}
	return known, nil
}

// announced gives the first post of each kind that was made for the deployment.
func announced(tx txContext, id int64) ([]Post, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, selectPosts+`WHERE o.deployment = ? AND o.id IN
		(SELECT min(p.id) FROM outbox p WHERE p.deployment = o.deployment GROUP BY p.kind) ORDER BY o.id`, id)
	if err != nil {
		return nil, fmt.Errorf("find earlier posts: %w", err)
	}
	return collected(rows, scanPost)
}

// announcements says where a deployment is to be announced: nowhere, when its app follows no repository.
func announcements(tx txContext, d Deployment) ([]Post, error) {
	app, err := scanApp(tx.row(selectApps+`WHERE name = ?`, d.App))
	if err != nil {
		return nil, err
	}
	config, err := DecodeConfig(app.Source, app.Config)
	if err != nil {
		return nil, nil // an app that cannot be understood follows nothing
	}
	shared := config.Shared()
	repository, follows := shared.Repository()
	if !follows || ValidateCommitID(d.ForgeSHA()) != nil || d.Trigger == TriggerRestart { // a restart says nothing new of its commit
		return nil, nil
	}
	status := Post{
		Kind: PostStatus, Lane: strings.ToLower("status " + repository.String() + " " + d.ForgeSHA() + " " + d.App), App: d.App, Deployment: d.ID,
		Trigger: d.Trigger, Repository: repository, SHA: d.ForgeSHA(), Environment: shared.environment(), PublicLogs: shared.PublicLogs,
	}
	if len(app.Hosts) > 0 {
		status.Host = app.Hosts[0]
	}
	if !shared.GitHubDeployment || d.StatusOnly {
		return []Post{status}, nil
	}
	deployment := status
	deployment.Kind, deployment.Lane = PostDeployment, "deployment "+itoa(d.ID)
	return []Post{status, deployment}, nil
}

func insertPost(tx txContext, p Post) error {
	now := stamp(time.Now())
	if p.Verdict != "" {
		_, err := tx.exec(`UPDATE outbox SET ended_at = ?, outcome = ? WHERE deployment = ? AND kind = ? AND ended_at IS NULL`,
			now, Coalesced, p.Deployment, p.Kind)
		if err != nil {
			return fmt.Errorf("coalesce posts: %w", err)
		}
	}
	_, err := tx.exec(`INSERT INTO outbox (lane, kind, app, deployment, trigger_, owner, name, sha, environment, verdict, reason, host,
		public_logs, took, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		p.Lane, p.Kind, p.App, p.Deployment, p.Trigger, p.Repository.Owner, p.Repository.Name, p.SHA, p.Environment, p.Verdict,
		p.Reason, p.Host, p.PublicLogs, p.Took.Microseconds(), now)
	if err != nil {
		return fmt.Errorf("write post: %w", err)
	}
	return nil
}

// Announce tells the forge how a deployment stands, unless it has heard that: it may have come to know the commit only now.
func (s *Store) Announce(ctx context.Context, deployment int64) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		err := announce(txContext{ctx, tx}, deployment)
		if errors.Is(err, sql.ErrNoRows) {
			return unknownDeployment(deployment)
		}
		return err
	})
	if err == nil {
		s.watchers.wake(OutboxTopic)
	}
	return err
}

const (
	selectPosts = `SELECT o.id, o.lane, o.kind, o.app, o.deployment, o.trigger_, o.owner, o.name, o.sha, o.environment, o.verdict,
		o.reason, o.host, o.public_logs, o.took, o.created_at, o.attempts, o.ended_at, o.outcome, o.answer FROM outbox o `
	firstOfLane = `o.ended_at IS NULL AND NOT EXISTS
		(SELECT 1 FROM outbox p WHERE p.lane = o.lane AND p.ended_at IS NULL AND p.id < o.id)`
	// doubtOfLane is until when a request of the lane may still be worked on by the forge, though nobody waits for its answer.
	doubtOfLane = `coalesce((SELECT max(p.doubt_until) FROM outbox p WHERE p.lane = o.lane AND p.doubt_until IS NOT NULL), 0)`
)

// DuePosts gives the first post of each lane that has one whose time has come, the oldest first.
func (s *Store) DuePosts(ctx context.Context, now time.Time, limit int) ([]Post, error) {
	return collect(ctx, s.read, scanPost, selectPosts+`WHERE `+firstOfLane+` AND max(o.next_attempt, `+doubtOfLane+`) <= ? ORDER BY o.id LIMIT ?`,
		stamp(now), limit)
}

// NextPost says when the next post is due; false when none waits.
func (s *Store) NextPost(ctx context.Context) (time.Time, bool, error) {
	return s.earliest(ctx, `SELECT min(max(o.next_attempt, `+doubtOfLane+`)) FROM outbox o WHERE `+firstOfLane)
}

// BeginPost records that a post is about to be sent, so that a crash does not make it be sent twice unknowingly. Until the
// answer is recorded, nothing else of its lane is due before doubtUntil: the forge may still be working on the request of a
// process that died, and looking whether it arrived would find nothing yet.
func (s *Store) BeginPost(ctx context.Context, id int64, doubtUntil time.Time) error {
	return s.changePost(ctx, `UPDATE outbox SET attempts = attempts + 1, doubt_until = ? WHERE id = ?`, stamp(doubtUntil), id)
}

// PutOffPost has a post sent again later, and says why. Unless it was answered, it stays in doubt.
func (s *Store) PutOffPost(ctx context.Context, id int64, until time.Time, why string, answered bool) error {
	return s.changePost(ctx, `UPDATE outbox SET next_attempt = ?, answer = ?, doubt_until = CASE WHEN ? THEN NULL ELSE doubt_until END
		WHERE id = ?`, stamp(until), s.Masked(why), answered, id)
}

func (s *Store) changePost(ctx context.Context, query string, args ...any) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("write post: %w", err)
		}
		return nil
	})
}

// EndPost records how a post ended. What its deployment's history should say of that comes with it, where there still is one.
func (s *Store) EndPost(ctx context.Context, post Post, outcome PostOutcome, answer string, events ...Event) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		_, err := t.exec(`UPDATE outbox SET ended_at = ?, outcome = ?, answer = ?, doubt_until = NULL WHERE id = ?`, stamp(time.Now()), outcome, s.Masked(answer), post.ID)
		if err != nil {
			return fmt.Errorf("end post: %w", err)
		}
		var there bool
		if err := t.row(`SELECT EXISTS (SELECT 1 FROM deployments WHERE id = ?)`, post.Deployment).Scan(&there); err != nil || !there {
			return err
		}
		return writeEvents(t, post.Deployment, s.maskedEvents(events))
	})
	if err == nil {
		s.watchers.wake(OutboxTopic) // the next one of its lane
		s.watchers.wake(DeploymentTopic(post.Deployment))
	}
	return err
}

// UndeliveredPosts lists what the forge refused, or could not be told in time, since then, where no later post of the lane
// was taken; the newest first.
func (s *Store) UndeliveredPosts(ctx context.Context, since time.Time, limit int) ([]Post, error) {
	return collect(ctx, s.read, scanPost, selectPosts+`WHERE o.outcome IN ('refused', 'expired') AND o.ended_at >= ?
		AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.lane = o.lane AND p.id > o.id) ORDER BY o.id DESC LIMIT ?`, stamp(since), limit)
}

// RetryRefusedPosts gives what was refused since then another chance: the credentials are new. Only the last word of each
// lane is worth repeating.
func (s *Store) RetryRefusedPosts(ctx context.Context, since time.Time) error {
	err := s.changePost(ctx, `UPDATE outbox SET ended_at = NULL, outcome = '', next_attempt = 0 WHERE id IN (SELECT o.id FROM outbox o
		WHERE o.outcome = 'refused' AND o.created_at >= ? AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.lane = o.lane AND p.id > o.id))`, stamp(since))
	if err == nil {
		s.watchers.wake(OutboxTopic)
	}
	return err
}

// Posts lists what was and is to be told of a deployment, in order.
func (s *Store) Posts(ctx context.Context, deployment int64) ([]Post, error) {
	return collect(ctx, s.read, scanPost, selectPosts+`WHERE o.deployment = ? ORDER BY o.id`, deployment)
}

// PrunePosts forgets posts that ended before then.
func (s *Store) PrunePosts(ctx context.Context, before time.Time) error {
	return s.changePost(ctx, `DELETE FROM outbox WHERE ended_at < ?`, stamp(before))
}

func scanPost(row scanner) (Post, error) {
	var p Post
	var took int64
	var created, ended sql.NullInt64
	err := row.Scan(&p.ID, &p.Lane, &p.Kind, &p.App, &p.Deployment, &p.Trigger, &p.Repository.Owner, &p.Repository.Name, &p.SHA,
		&p.Environment, &p.Verdict, &p.Reason, &p.Host, &p.PublicLogs, &took, &created, &p.Attempts, &ended, &p.Outcome, &p.Answer)
	if err != nil {
		return Post{}, fmt.Errorf("read post: %w", err)
	}
	p.Took, p.CreatedAt, p.EndedAt = time.Duration(took)*time.Microsecond, unstamp(created), unstamp(ended)
	return p, nil
}
