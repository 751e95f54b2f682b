package github

import "context"

func (g *GitHub) runCatchUp(ctx context.Context) { <-ctx.Done() }
