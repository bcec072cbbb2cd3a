//go:build linux

package webui_test

import "testing"

func newSampleBox(t *testing.T) *box { return newBox(t) }
