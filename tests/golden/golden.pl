#!/usr/bin/env perl
# Makes signals.csv and ald.csv, the golden values of tests/test_signals.py and tests/test_truth.py.
#
# A second implementation, written from the docstrings of plcsim/signals/ and plcsim/process.py
# and from configs/ald.yaml, not from their code; the cases and the parameters of the ALD machine are
# restated here by hand. Time is counted in whole milliseconds, so that the share of a period is
# exact at any PLC scan. Run again only if the specification changes:
#
#     perl tests/golden/golden.pl
use strict;
use warnings;
no warnings 'portable';    # 64-bit constants
use Digest::SHA qw(sha256);
use File::Basename qw(dirname);

use constant PI => 4 * atan2(1, 1);
use constant GAMMA => 0x9E3779B97F4A7C15;

# --- SplitMix64 -------------------------------------------------------------------------
sub add64 { use integer; my $sum = $_[0] + $_[1]; no integer; return $sum & ~0 }
sub mul64 { use integer; my $product = $_[0] * $_[1]; no integer; return $product & ~0 }

sub mix {
    my ($z) = @_;
    $z = mul64($z ^ ($z >> 30), 0xBF58476D1CE4E5B9);
    $z = mul64($z ^ ($z >> 27), 0x94D049BB133111EB);
    return $z ^ ($z >> 31);
}

my @reference = (6457827717110365317, 3203168211198807973, 9817491932198370423,
                 4593380528125082431, 16408922859458223821);    # published, for seed 1234567
for my $n (1 .. 5) {
    mix(add64(1234567, mul64($n, GAMMA))) == $reference[$n - 1] or die "SplitMix64 output $n";
}

# --- Machines ---------------------------------------------------------------------------
sub repeat { my ($times, @steps) = @_; return map { @steps } 1 .. $times }

my %oven = (
    device_id => 'oven-1', seed => 7, scan_ms => 50,
    steps => [[idle => 500], [heat => 200], repeat(2, [pulse => 100], [rest => 150]), [cool => 20]],
);
my %ald = (
    device_id => 'ald-1', seed => 84, scan_ms => 100,
    steps => [
        [idle => 2000], [stabilise => 800],
        repeat(3, [dose_tma => 200], [purge_tma => 300], [dose_h2o => 200], [purge_h2o => 300],
               [plasma_o2 => 300], [purge_o2 => 200]),
        [pump_down => 700],
    ],
);

for my $machine (\%oven, \%ald) {
    my (%number_of, @scans);
    for my $step (@{ $machine->{steps} }) {
        my ($name, $ms) = @$step;
        my $new_number = keys %number_of;    # idle comes first and gets 0
        $number_of{$name} //= $new_number;
        my $length = int($ms / $machine->{scan_ms} + 0.5) || 1;
        push @scans, ([$name, $number_of{$name}]) x $length;
    }
    $machine->{cycle} = \@scans;
}

# --- Signals: each is a function of (machine, parameter_id, PLC scan) -------------------
sub step_of { my ($m, $scan) = @_; return $m->{cycle}[$scan % @{ $m->{cycle} }] }

sub noise {
    my ($amplitude, $m, $id, $scan) = @_;
    my $key = unpack 'Q>', sha256("$m->{seed}/$m->{device_id}/$id");
    my $u = (mix(add64($key, mul64($scan, GAMMA))) >> 11) / 2**53;
    return $amplitude * (2 * $u - 1);
}

sub share {
    my ($period_ms, $m, $scan) = @_;
    return $scan * $m->{scan_ms} % $period_ms / $period_ms;
}

sub constant { my ($value) = @_; return sub { $value } }

sub sine {
    my ($mean, $amplitude, $period_ms, $phase, $noise) = @_;
    return sub {
        my ($m, $id, $scan) = @_;
        my $angle = 2 * PI * (share($period_ms, $m, $scan) + $phase);
        return $mean + $amplitude * sin($angle) + noise($noise, @_);
    };
}

sub ramp {
    my ($start, $end, $period_ms) = @_;
    return sub { $start + ($end - $start) * share($period_ms, $_[0], $_[2]) };
}

sub uniform { my ($mean, $amplitude) = @_; return sub { $mean + noise($amplitude, @_) } }

sub counter { my ($step, $start, $wrap) = @_; return sub { ($start + $_[2] * $step) % $wrap } }

sub steps {
    my ($levels, $otherwise, $noise) = @_;
    return sub { ($levels->{ step_of(@_[0, 2])->[0] } // $otherwise) + noise($noise, @_) };
}

sub follow {
    my ($setpoint, $noise, $otherwise, @during) = @_;
    my %active = map { $_ => 1 } @during;
    return sub {
        my $follows = !@during || $active{ step_of(@_[0, 2])->[0] };
        return ($follows ? $setpoint : $otherwise) + noise($noise, @_);
    };
}

sub plc_scan { return sub { $_[2] % 2**32 } }
sub running { return sub { step_of(@_[0, 2])->[1] > 0 ? 1 : 0 } }
sub step { return sub { step_of(@_[0, 2])->[1] } }
sub number { return sub { int($_[2] / @{ $_[0]{cycle} }) + 1 } }

# --- What the registers leave of a value ------------------------------------------------
sub float32 { my ($signal) = @_; return sub { unpack 'f', pack 'f', $signal->(@_) } }

sub whole {
    my ($signal, $scale) = @_;
    return sub { sprintf('%.0f', $signal->(@_) / $scale) * $scale };
}

# --- Cases ------------------------------------------------------------------------------
my @signals = (
    [constant => 1, constant(21.5)],
    [sine => 2, sine(10, 3, 7300, 0.25, 0)],
    [sine_noise => 3, sine(-2, 0.5, 60000, 0, 0.75)],
    [ramp => 4, ramp(0, 100, 3000)],
    [ramp_down => 5, ramp(98, 12, 86400000)],
    [noise => 6, uniform(5, 2)],
    [counter => 7, counter(3, 4294960000, 2**32)],
    [counter_down => 8, counter(-7, 5, 1000)],
    [steps => 9, steps({ heat => 80, rest => -3 }, 20, 0.5)],
    [follow => 10, follow(42.5, 0.1, 0)],
    [follow_during => 11, follow(42.5, 0.25, 1, 'pulse', 'rest')],
    [plc_scan => 12, plc_scan()],
    [process_running => 13, running()],
    [process_step => 14, step()],
    [process_number => 15, number()],
);
my @parameters = (
    [1, whole(plc_scan(), 1)],
    [2, whole(running(), 1)],
    [3, whole(number(), 1)],
    [4, whole(step(), 1)],
    [5, float32(follow(0.8, 0.004, 0))],
    [7, float32(sine(115, 1.2, 140000, 0.2, 0.1))],
    [8, whole(sine(0, 4.5, 20000, 0, 0), 0.001)],
    [10, whole(sine(49, 12, 27000, 0, 1.5), 0.1)],
    [20, whole(sine(23.5, 0.9, 300000, 0, 0.2), 0.1)],
    [21, float32(follow(500, 0.3, 20, qw(purge_tma purge_h2o purge_o2 pump_down)))],
    [32, float32(steps({ dose_tma => 18 }, 11.5, 0.2))],
    [33, whole(ramp(98, 12, 86400000), 0.1)],
    [38, float32(follow(300, 1, 0, 'plasma_o2'))],
    [40, whole(steps({ plasma_o2 => -142 }, 0, 2.4), 1)],
    [46, float32(uniform(1.8, 0.5))],
    [53, whole(counter(3, 4294960000, 2**32), 1)],
    [55, whole(sine(-1200, 90000, 75000, 0, 0), 1)],
    [58, whole(ramp(-150000, 150000, 12000), 1)],
    [68, float32(constant(22.5))],
    [73, whole(plc_scan(), 1)],
    [74, whole(steps({ dose_tma => 1 }, 0, 0), 1)],
    [78, whole(steps({ pump_down => 0 }, 1, 0), 1)],
);
my @far = (2**31 - 1, 2**31, 2**31 + 17, 3000000028, 2**32 - 1, 2**32, 2**32 + 35);
my @oven_scans = (0, 1, 9, 10, 13 .. 16, 18 .. 20, 23 .. 25, 49, 59 .. 61, 1000003, @far);
my @ald_scans = (0, 1, 19, 20, 27, 28, 30, 33, 35, 38, 41, 43, 72, 73, 79, 80, 119, 2432, @far);

sub write_csv {
    my ($name, $column, $machine, $scans, @rows) = @_;
    open my $out, '>', dirname(__FILE__) . "/$name" or die "$name: $!";
    print $out "$column,plc_scan,value\n";
    for my $row (@rows) {
        my ($case, $id, $value_at) = @$row;
        printf $out "%s,%d,%.17g\n", $case, $_, $value_at->($machine, $id, $_) for @$scans;
    }
    close $out or die "$name: $!";
}

write_csv('signals.csv', 'case', \%oven, \@oven_scans, @signals);
write_csv('ald.csv', 'parameter_id', \%ald, \@ald_scans, map { [$_->[0], @$_] } @parameters);
