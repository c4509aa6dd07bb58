"""Optimizers, each a short chain that reads like its paper: a file a family, wiring and no more."""

from .ademamix import ademamix as ademamix
from .mars import mars_adamw as mars_adamw
from .mars import mars_muon as mars_muon
from .muon import muon as muon
from .normuon import normuon as normuon
from .shampoo import asgo as asgo
from .shampoo import shampoo as shampoo
from .soap import soap as soap
from .soap_muon import soap_muon as soap_muon
