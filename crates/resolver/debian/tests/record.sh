#!/bin/sh
# Records what apt would install, from no dpkg state at all, as what the closure is judged by. Needs a Debian host whose
# apt knows bookworm, bookworm-updates and bookworm-security, amd64, and has run `apt-get update`.
#
#   record.sh                   records closures/NAME.closure for each line of closures/requests, and an extract of the
#                               indexes: every package that the closures reach, and what they could have reached instead
#   record.sh --compare COUNT   holds the closures of COUNT random requests against apt over the whole indexes
set -eu
cd "$(dirname "$0")/closures"
export LC_ALL=C
work=$(mktemp -d)
export work
trap 'rm -rf "$work"' EXIT

apt-get indextargets --format '$(RELEASE) $(FILENAME)' 'Created-By: Packages' | while read -r release file; do
    /usr/lib/apt/apt-helper cat-file "$file" >>"$work/$release.packages"
done

# simulate PACKAGE…: `name=version` lines, sorted.
simulate() {
    apt-get -o Dir::State::status=/dev/null -o Dir::Cache::pkgcache="$work/cache" -o Dir::Cache::srcpkgcache= \
        -o Debug::NoLocking=1 --simulate --no-install-recommends install "$@" |
        sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p' | sort
}

if [ "${1:-}" = --compare ]; then
    cargo build --quiet -p imgforge-resolver-debian --example closure
    target=${CARGO_TARGET_DIR:-$(cargo locate-project --workspace --message-format plain | xargs dirname)/target}
    sed -n 's/^Package: //p' "$work"/*.packages | sort -u >"$work/names"
    different=0
    # Sorted, because what apt takes may depend on the order of a request; ours is what it takes for the sorted one.
    for round in $(seq "${2:?how many requests}"); do
        packages=$(shuf -n "$((round % 3 + 1))" "$work/names" | sort)
        # Where apt finds no set of packages it fails, and there is nothing to hold ours against.
        simulate $packages >"$work/apt" 2>/dev/null
        "$target/debug/examples/closure" amd64 "$work"/*.packages -- $packages | sed '/^$/d' | sort >"$work/ours"
        [ -s "$work/apt" ] || continue
        if ! diff "$work/apt" "$work/ours" >"$work/difference"; then
            different=$((different + 1))
            echo "different: $(echo $packages)" && cat "$work/difference"
        fi
    done
    echo "$different of $2 differ"
    [ "$different" = 0 ]
    exit
fi

rm -f ./*.closure ./*.packages
while read -r name packages; do
    { echo "$packages"; simulate $packages; } >"$name.closure"
done <requests

# Only what a closure is made from is kept of a stanza; relations stay as they are.
for index in "$work"/*.packages; do
    perl -00 -e '
        my ($index, @closures) = @ARGV;
        my (%reached, %named, @stanzas);
        for my $file (@closures) {
            open my $closure, "<", $file or die; local $/ = "\n"; <$closure>;
            while (<$closure>) { $reached{$1} = 1 if /^(.*?)=/ }
        }
        for my $file (glob("$ENV{work}/*.packages")) {
            open my $packages, "<", $file or die;
            while (my $stanza = <$packages>) {
                my ($name) = $stanza =~ /^Package: (.*)$/m;
                push @stanzas, [$name, $stanza, $file];
                next unless $reached{$name};
                while ($stanza =~ /^(?:Pre-Depends|Depends): (.*)$/mg) { $named{$_} = 1 for $1 =~ /(?:^|[,|] )([a-z0-9][^ :,|]*)/g }
            }
        }
        for (@stanzas) {
            my ($name, $stanza, $file) = @$_;
            my ($provides) = $stanza =~ /^Provides: (.*)$/m;
            my $provider = grep { $named{$_} && !$reached{$_} } map { s/[ :(].*//r } split /, /, $provides // "";
            next unless $file eq $index && ($reached{$name} || $named{$name} || $provider);
            print join("\n", grep { /^(Package|Version|Architecture|Multi-Arch|Priority|Essential|Pre-Depends|Depends|Recommends|Provides|Conflicts|Breaks|Filename|Size|SHA256):/ } split /\n/, $stanza), "\n\n";
        }' "$index" ./*.closure >"$(basename "$index")"
done
du -bc ./* | tail -1
