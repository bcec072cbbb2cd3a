//go:build linux

package gate

import "context"

// SetGet replaces how pages are fetched.
func (a *Asker) SetGet(get func(ctx context.Context, url string) error) { a.get = get }
