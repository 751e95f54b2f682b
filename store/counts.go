package store

import "context"

// VerdictCount is how many deployments of an app have a verdict; those without one still wait or run.
type VerdictCount struct {
	App     string
	Verdict Verdict
	Number  int64
}

// CountVerdicts counts the deployments of every app by verdict.
func (s *Store) CountVerdicts(ctx context.Context) ([]VerdictCount, error) {
	return collect(ctx, s.read, func(row scanner) (count VerdictCount, err error) {
		return count, row.Scan(&count.App, &count.Verdict, &count.Number)
	}, `SELECT a.name, d.verdict, count(*) FROM deployments d JOIN apps a ON a.id = d.app GROUP BY a.name, d.verdict`)
}
