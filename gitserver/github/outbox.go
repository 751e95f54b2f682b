package github

import "context"

func (g *GitHub) runOutbox(ctx context.Context) { <-ctx.Done() }
