package openapitest

import (
	"net/netip"
	"reflect"
	"time"
)

// known are values of types that cannot be filled part by part.
var known = map[reflect.Type]any{
	timeType:                        time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC),
	reflect.TypeFor[netip.Addr]():   netip.MustParseAddr("192.168.10.1"),
	reflect.TypeFor[netip.Prefix](): netip.MustParsePrefix("192.168.10.0/24"),
}

// Sample returns a value of the type in which nothing is empty.
func (s *Sources) Sample(t reflect.Type) any {
	v := reflect.New(t).Elem()
	s.fill(v)
	return v.Interface()
}

func (s *Sources) fill(v reflect.Value) {
	t := v.Type()
	if k, ok := known[t]; ok {
		v.Set(reflect.ValueOf(k))
		return
	}
	switch t.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	case reflect.String:
		v.SetString("x")
		if values := s.Values(t); values != nil {
			v.SetString(values[0])
		}
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		s.fill(v.Elem())
	case reflect.Slice:
		n := 1
		if t.Elem().Kind() == reflect.Uint8 {
			n = 32 // a key
		}
		v.Set(reflect.MakeSlice(t, n, n))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			s.fill(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if t.Elem().Kind() != reflect.Interface {
			s.fill(key)
			s.fill(value)
			v.Set(reflect.MakeMap(t))
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				s.fill(v.Field(i))
			}
		}
	}
}
