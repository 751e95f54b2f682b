package github

import "context"

func (g *GitHub) runDeliveries(ctx context.Context) { <-ctx.Done() }
