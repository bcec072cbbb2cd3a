package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Manage who else may talk to a box",
		Long: `Manage the tokens with which programs and people talk to a box over HTTPS.

A job that has one sets BULKHEAD_TOKEN to it, or BULKHEAD_TOKEN_FILE to the name of a
file that holds it, and BULKHEAD_FINGERPRINT to the box's fingerprint; then
"bulkhead --box https://ADDRESS" works as it does where the box was claimed.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tokenCreateCommand(), &cobra.Command{
		Use:   "list",
		Short: "List the tokens of a box",
		Long:  "List the tokens of a box, without the tokens themselves, which it does not know.\n\n" + exitHelp,
		Args:  cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listTokens(cmd.Context()) },
	}, &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a token worthless",
		Long:  "Make the token with the ID or the name worthless, at once and for good.\n\n" + exitHelp,
		Args:  cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error { return a.revokeToken(cmd.Context(), args[0]) },
	})
	return cmd
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var scopes, expires string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token",
		Long: `Make a token and print it. It is shown this once; the box keeps only enough to know
it again. NAME is who the history says made a change.

Scopes: read (see how the box is), plan (ask what a change would do), apply (change
the configuration), update (write another image), admin (all of it, and tokens and
keys). Each stands for itself: who applies from a job needs read, plan and apply.

A token ends within a year. It cannot hold more than the one that makes it, nor live
longer.

` + exitHelp,
		Example: `  bulkhead token create ci --scopes read,plan --expires 90d
  BULKHEAD_TOKEN=$(bulkhead token create ci --scopes read,plan,apply --expires 2027-03-31)`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := access.TokenRequest{Name: args[0]}
			var err error
			if in.Scopes, err = parseScopes(scopes); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			if in.Expires, err = parseExpiry(expires, a.now().In(a.location)); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return a.createToken(cmd.Context(), in)
		},
	}
	cmd.Flags().StringVar(&scopes, "scopes", "", "what it is for: `list` of "+access.ScopeNames())
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends: a `time` such as 12h, 90d, 8w, or the last day, such as 2027-03-31")
	_ = cmd.RegisterFlagCompletionFunc("scopes", cobra.FixedCompletions(strings.Split(access.ScopeNames(), ", "), cobra.ShellCompDirectiveNoFileComp)) // fails without such a flag
	return cmd
}

func parseScopes(text string) ([]access.Scope, error) {
	if text == "" {
		return nil, fmt.Errorf("say what the token is for: --scopes, of %s", access.ScopeNames())
	}
	var list []access.Scope
	for word := range strings.SplitSeq(text, ",") {
		s := access.Scope(strings.TrimSpace(word))
		if !slices.Contains(access.Scopes(), s) {
			return nil, fmt.Errorf("there is no scope %q: there are %s", s, access.ScopeNames())
		}
		list = append(list, s)
	}
	return list, nil
}

// parseExpiry reads how long from now something holds, or its last day in the time zone
// of now.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	bad := fmt.Errorf("--expires %q is no time: write 12h, 90d, 8w or a day such as %s", text, now.AddDate(0, 3, 0).Format(time.DateOnly))
	if text == "" {
		return time.Time{}, fmt.Errorf("say when the token ends, a year from now at the latest: --expires 90d")
	}
	var at time.Time
	if day, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		at = day.AddDate(0, 0, 1)
	} else if days, ok := map[byte]int{'d': 1, 'w': 7}[text[len(text)-1]]; ok {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 12)
		if err != nil {
			return time.Time{}, bad
		}
		at = now.Add(time.Duration(n) * time.Duration(days) * 24 * time.Hour)
	} else if d, err := time.ParseDuration(text); err == nil {
		at = now.Add(d)
	} else {
		return time.Time{}, bad
	}
	switch {
	case !at.After(now):
		return time.Time{}, fmt.Errorf("--expires %s is over already", text)
	case at.After(now.Add(access.MaxLife)):
		return time.Time{}, fmt.Errorf("--expires %s is more than a year away: nobody remembers for so long who holds the token", text)
	}
	return at.UTC().Truncate(time.Second), nil
}

func (a *app) createToken(ctx context.Context, in access.TokenRequest) error {
	p, err := a.profile(ctx)
	if err != nil {
		return err
	}
	var made access.TokenAnswer
	if err := remote.New(p).Call(ctx, "POST", "/v1/tokens", in, &made); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(made)
	}
	fmt.Fprintln(a.out, made.Secret)
	fmt.Fprintf(a.err, `Token %s is %q's, for %s, until %s. It is shown this once.
Who uses it sets BULKHEAD_TOKEN to it,
  BULKHEAD_FINGERPRINT=%s
and calls: bulkhead --box %s …
`, made.ID, made.Name, scopeList(made.Scopes), a.when(made.Expires), p.Fingerprint, p.URL)
	return nil
}

func scopeList(list []access.Scope) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

func (a *app) tokens(ctx context.Context) (*remote.Client, []access.Token, error) {
	c, err := a.remote(ctx)
	if err != nil {
		return nil, nil, err
	}
	var list []access.Token
	return c, list, c.Call(ctx, "GET", "/v1/tokens", nil, &list)
}

func (a *app) listTokens(ctx context.Context) error {
	_, list, err := a.tokens(ctx)
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(list)
	}
	t := table{header: []string{"ID", "NAME", "SCOPES", "MADE", "LAST USED", "EXPIRES"}}
	for _, v := range list {
		used, expires := "-", "never"
		if !v.Used.IsZero() {
			used = a.when(v.Used)
		}
		if !v.Expires.IsZero() {
			expires = a.when(v.Expires)
			if !a.now().Before(v.Expires) {
				expires = "expired"
			}
		}
		t.rows = append(t.rows, []string{v.ID, v.Name, scopeList(v.Scopes), a.when(v.Created), used, expires})
	}
	return a.print(t)
}

// revokeToken takes a name as well where it is one token's.
func (a *app) revokeToken(ctx context.Context, which string) error {
	c, list, err := a.tokens(ctx)
	if err != nil {
		return err
	}
	found := slices.DeleteFunc(slices.Clone(list), func(t access.Token) bool { return t.ID != which })
	if len(found) == 0 {
		found = slices.DeleteFunc(list, func(t access.Token) bool { return t.Name != which })
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("the box has no token %q; see: bulkhead token list", which)
	case 1:
	default:
		return fmt.Errorf("%d tokens are called %q: give the ID of one; see: bulkhead token list", len(found), which)
	}
	if err := c.Call(ctx, "DELETE", "/v1/tokens/"+found[0].ID, nil, nil); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("token %s (%s) is worthless now", found[0].ID, found[0].Name))
}
