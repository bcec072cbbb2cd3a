package remote

import "context"

// Patiently is what [Look] dials with.
func Patiently(ctx context.Context, dial func() (string, error)) (string, error) {
	return patiently(ctx, dial)
}
